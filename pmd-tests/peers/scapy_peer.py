#!/usr/bin/python3
"""scapy as the other edge: seals and opens the overlay's packets for pmd-tests/src/scapy.rs.

One JSON object a line on stdin, one on stdout. Bytes are hexadecimal.

  encode  mac addresses, IP addresses and UDP ports of the outer headers; spi, key (and salt),
          seq (64 bits), esn; encapsulation, vni, frame      ->  packet
  decode  packet, key, high (upper half of the number), esn  ->  everything in it, or an error

The enciphering is scapy's (scapy.layers.ipsec), and so are all headers. Around three of its
limits its parts are used instead of the whole:
  * SecurityAssociation.encrypt fixes the outer UDP length at 8 over IPv4 and leaves its checksum
    at 0 over IPv6: both are filled in again afterwards, by scapy's own UDP.
  * SecurityAssociation.decrypt knows UDP encapsulation over IPv4 only: CryptAlgo.decrypt is given
    the ESP layer.
  * It does not infer the upper half of the number: the caller gives it, as this overlay's IV does.
"""
import json
import sys

from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

PORTS = {"geneve": 6081, "vxlan": 4789}


def association(request, spi, seq):
    return SecurityAssociation(
        ESP,
        spi=spi,
        seq_num=seq & 0xFFFFFFFF,
        crypt_algo="AES-GCM",
        crypt_key=bytes.fromhex(request["key"]),
        nat_t_header=UDP(sport=request.get("sport", 0), dport=request.get("dport", 0)),
        esn_en=request["esn"],
        esn=seq >> 32,
    )


def ip_header(request):
    if ":" in request["src"]:
        return IPv6(src=request["src"], dst=request["dst"], hlim=64)
    return IP(src=request["src"], dst=request["dst"], id=0, flags="DF", ttl=64)


def tunnel(request):
    port = PORTS[request["encapsulation"]]
    udp = UDP(sport=port, dport=port)
    if ":" not in request["src"]:
        udp.chksum = 0
    if request["encapsulation"] == "geneve":
        header = GENEVE(vni=request["vni"], proto=0x6558)
    else:
        header = VXLAN(vni=request["vni"], flags="Instance")
    return udp / header / Ether(bytes.fromhex(request["frame"]))


def encode(request):
    seq = request["seq"]
    sa = association(request, request["spi"], seq)
    iv = request.get("iv", seq).to_bytes(8, "big")
    sealed = sa.encrypt(ip_header(request) / tunnel(request), seq_num=seq & 0xFFFFFFFF, iv=iv)
    del sealed[UDP].len
    if sealed.version == 6:
        del sealed[UDP].chksum
    frame = Ether(src=request["src_mac"], dst=request["dst_mac"]) / sealed
    return {"packet": bytes(frame).hex()}


def decode(request):
    original = bytes.fromhex(request["packet"])
    packet = Ether(original)
    ip = packet[IPv6] if IPv6 in packet else packet[IP]
    udp, esp = packet[UDP], packet[ESP]
    sa = association(request, esp.spi, request["high"] << 32 | esp.seq)
    # It has to be tried before anything is changed below.
    plain = sa.crypt_algo.decrypt(sa, esp, sa.crypt_key, None, esn_en=sa.esn_en, esn=sa.esn)
    said = {
        "src_mac": packet.src,
        "dst_mac": packet.dst,
        "src": ip.src,
        "dst": ip.dst,
        "sport": udp.sport,
        "dport": udp.dport,
        "spi": esp.spi,
        "seq": esp.seq,
        "iv": int.from_bytes(plain.iv, "big"),
        "next_header": plain.nh,
        "pad_length": plain.padlen,
    }
    inner = UDP(plain.data)
    header = inner[GENEVE] if GENEVE in inner else inner[VXLAN]
    said["encapsulation"] = "geneve" if GENEVE in inner else "vxlan"
    said["inner_ports"] = [inner.sport, inner.dport]
    said["vni"] = header.vni
    said["frame"] = bytes(header.payload).hex()
    # Lengths and checksums as scapy computes them: over IPv4 the UDP checksum stays zero.
    if ip.version == 4:
        del ip.len, ip.chksum, udp.len
    else:
        del ip.plen, udp.len, udp.chksum
    said["again"] = bytes(packet).hex()
    said["zero_checksum"] = ip.version == 4 and udp.chksum == 0
    return said


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"encode": encode, "decode": decode}[request["op"]](request)
        except IPSecIntegrityError:
            answer = {"error": "integrity"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""A tenant that looks for machines that do not exist: COUNT addresses, in turn by ARP (RFC 826) and by
an IPv4 packet to a MAC address that nobody has. From the machine 10.0.0.N; prints the time it took."""

import socket
import struct
import sys
import time

n, count = int(sys.argv[1]), int(sys.argv[2])
mac = bytes([0x52, 0x54, 0, 0, 0, n])
own = bytes([10, 0, 0, n])
arp = b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + own + bytes(6)
ip = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0)
udp = struct.pack("!HHHH", 9, 9, 8, 0)

link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
began = time.monotonic()
for i in range(count):
    # 10.16.0.0 and above: nobody is there.
    wanted = struct.pack("!I", 0x0A100000 + i)
    if i % 2:
        frame = arp + wanted + bytes(18)
    else:
        frame = b"\x02\x77" + wanted + mac + b"\x08\x00" + ip + own + wanted + udp + bytes(18)
    while True:
        try:
            link.send(frame)
            break
        except OSError:  # The queue is full.
            time.sleep(0.0005)
print(time.monotonic() - began)

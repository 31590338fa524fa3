"""A tenant that looks for machines that do not exist: COUNT addresses, in turn by ARP (RFC 826) and by
an IPv4 packet to a MAC address that nobody has, and more of them until its input ends. From the machine
10.0.0.N."""

import select
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
i = 0
while i < count or i % 64 or not select.select([sys.stdin], [], [], 0)[0]:
    # 10.16.0.0 and above: nobody is there.
    wanted = struct.pack("!I", 0x0A100000 + i % 0xE00000)
    if i % 2:
        frame = arp + wanted + bytes(18)
    else:
        frame = b"\x02\x77" + wanted + mac + b"\x08\x00" + ip + own + wanted + udp + bytes(18)
    try:
        link.send(frame)
        i += 1
    except OSError:  # The queue is full.
        time.sleep(0.0005)

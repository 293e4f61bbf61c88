"""The emulated LAN's cable, from outside: Ethernet frames in multicast datagrams on the loopback interface."""

import socket
import struct
import time

GROUP = "230.77.0.1"
# The group, port and MAC address of multicast DNS (RFC 6762).
MDNS = "224.0.0.251"
MDNS_PORT = 5353
MDNS_MAC = bytes.fromhex("01005e0000fb")
A, IN = 1, 1


def checksum(words):
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(payload, source="169.254.77.77", mac=bytes.fromhex("5254007700fe")):
    """An Ethernet frame with a multicast DNS datagram."""
    udp = struct.pack("!HHHH", MDNS_PORT, MDNS_PORT, 8 + len(payload), 0) + payload
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(udp),
        0,
        0,
        255,
        17,
        0,
        socket.inet_aton(source),
        socket.inet_aton(MDNS),
    )
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return MDNS_MAC + mac + b"\x08\x00" + head + udp


def name_at(message, at):
    """A name in a DNS message as text, and the offset of its end."""
    parts, end = [], None
    for _ in range(64):
        length = message[at]
        if length >= 0xC0:
            end = end or at + 2
            at = struct.unpack("!H", message[at : at + 2])[0] & 0x3FFF
        elif length == 0:
            return ".".join(parts), end or at + 1
        else:
            parts.append(message[at + 1 : at + 1 + length].decode())
            at += 1 + length
    raise ValueError("a name without end")


def answers(message, name):
    """The addresses that a DNS message gives a name."""
    _, flags, questions, *records = struct.unpack("!6H", message[:12])
    at = 12
    for _ in range(questions):
        at = name_at(message, at)[1] + 4
    found = []
    for _ in range(sum(records) if flags & 0x8000 else 0):
        of, at = name_at(message, at)
        kind, _, _, length = struct.unpack("!HHIH", message[at : at + 10])
        at += 10
        if kind == A and length == 4 and of.lower() == name.lower():
            found.append(socket.inet_ntoa(message[at : at + 4]))
        at += length
    return found


def address_of(port, name, within):
    """Asks the boards on the cable for a name by multicast DNS, as any computer does; returns the address, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as cable:
        cable.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        cable.bind((GROUP, port))
        here = socket.inet_aton("127.0.0.1")
        cable.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + here
        )
        cable.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        cable.settimeout(0.2)
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        question = struct.pack("!6H", 0, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", A, IN)
        begun, asked = time.monotonic(), 0.0
        while time.monotonic() < begun + within:
            if time.monotonic() > asked + 2:
                asked = time.monotonic()
                cable.sendto(frame(question), (GROUP, port))
            try:
                heard = cable.recv(65536)
            except TimeoutError:
                continue
            # UDP from port 5353, in IPv4 without options.
            if (
                len(heard) > 54
                and heard[12:14] == b"\x08\x00"
                and heard[23] == 17
                and heard[34:36] == struct.pack("!H", MDNS_PORT)
            ):
                try:
                    found = answers(heard[42:], name)
                except (ValueError, IndexError, struct.error):
                    continue
                if found:
                    return found[0]
    return None

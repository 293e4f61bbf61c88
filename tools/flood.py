#!/usr/bin/env python3
"""Measures how much a flood from strangers slows a node's answers: `make flood`.

    flood.py POTLUCK MODEL.gguf [--datagrams 50000] [--connections 32] [--rounds 5] [--json OUT]

Two nodes of a locked swarm share on this machine's loopback. Prompts that nobody has are asked of one of them in turns: in quiet, and while
a stranger without the key sends it that many junk datagrams a second and holds that many connections open that never say anything (each
is made again as soon as the node ends it). Some of the junk has the right first bytes and length, which anybody can copy; none has the key. Then a prompt that the other node has just answered is asked under the flood: it must still come from there.
"""

import argparse
import json
import os
import random
import socket
import statistics
import threading
import time
from pathlib import Path

from meeting import Node, Texts


class Flood:
    """A context that sends junk datagrams at a rate and holds mute connections."""

    def __init__(self, args, udp_port, tcp_port, heard):
        self.args, self.udp, self.tcp = args, ("127.0.0.1", udp_port), ("127.0.0.1", tcp_port)
        dice = random.Random(1)
        # A third is noise, a third is noise after the right magic, and a third copies the whole
        # unencrypted header of a real datagram.
        self.junk = [dice.randbytes(200) for _ in range(8)] + [
            heard[:5] + dice.randbytes(195) for _ in range(8)
        ]
        self.junk += [heard[:37] + dice.randbytes(len(heard) - 37) for _ in range(8)]
        self.sent = 0

    def __enter__(self):
        self.on = True
        self.threads = [threading.Thread(target=self.connect, daemon=True)]
        self.sender = os.fork()
        if self.sender == 0:
            self.send()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.on = False
        os.kill(self.sender, 15)
        os.waitpid(self.sender, 0)
        for thread in self.threads:
            thread.join()

    def send(self):
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        start, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - start) * self.args.datagrams) - sent
            for number in range(max(0, min(due, 5_000))):
                out.sendto(self.junk[(sent + number) % len(self.junk)], self.udp)
            sent += max(0, min(due, 5_000))
            time.sleep(0.0005)

    def connect(self):
        held = []
        while self.on:
            held = [one for one in held if self.is_open(one)]
            while len(held) < self.args.connections:
                try:
                    one = socket.create_connection(self.tcp, timeout=1)
                    one.setblocking(False)
                    held.append(one)
                except OSError:
                    break
            time.sleep(0.05)
        for one in held:
            one.close()

    @staticmethod
    def is_open(one):
        try:
            if one.recv(4096):
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        one.close()
        return False


def overhear(udp_port):
    """A real datagram of the swarm, as any stranger on the network receives it."""
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("", udp_port))
    ear.setsockopt(
        socket.IPPROTO_IP,
        socket.IP_ADD_MEMBERSHIP,
        socket.inet_aton("239.255.80.76") + socket.inet_aton("127.0.0.1"),
    )
    ear.settimeout(10)
    return ear.recv(2048)


def measure(args):
    port = random.Random(os.getpid()).randrange(20_000, 30_000)
    source = (Path(__file__).parent / "quality" / "prose.txt").read_text()
    texts = Texts(args.binary, args.model, 300, source)
    quiet, flooded, shared = [], [], []
    asked, peer = (
        Node(
            args.binary,
            args.model,
            ["--interface", "127.0.0.1", "--port", str(port), "--tcp-port", str(port + number)],
            environment={"POTLUCK_SWARM_KEY": args.key},
        )
        for number in (1, 2)
    )
    try:
        heard = overhear(port)
        asked.ask(texts.next())
        for _ in range(args.rounds):
            quiet.append(asked.ask(texts.next())["ttft_ms"])
            known = texts.next()
            peer.ask(known)
            fresh = texts.next()
            time.sleep(3)
            with Flood(args, port, port + 1, heard):
                time.sleep(1)
                flooded.append(asked.ask(fresh)["ttft_ms"])
                figures = asked.ask(known)
            shared.append(
                sum(count for _, count in figures["peers"])
                / (figures["prompt_tokens"] - figures["own"])
            )
    finally:
        asked.end()
        peer.end()
    middle = statistics.median
    return {
        "quiet_ms": quiet,
        "flooded_ms": flooded,
        "ratio": middle(flooded) / middle(quiet),
        "from_peer": shared,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--datagrams", type=int, default=50_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--key", default="7f" * 32)
    parser.add_argument("--json")
    args = parser.parse_args()
    result = measure(args)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

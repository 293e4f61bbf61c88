#!/usr/bin/env python3
"""Emulates one radio that all stations share, in user space: each station is a TAP in a separate network namespace, and this relay
carries their frames at one rate, with a delay, multicast loss and a rate that may change. Needs root, iproute2 and /dev/net/tun; no netem.

The model: frames of all stations occupy the air one after another. A frame of n bytes, including the Ethernet header, occupies it for n
bytes at --rate, `crossings` times: once if the rate is a goodput measured through the access point (like the published 20.9 Mbit/s),
twice if it is the rate of one hop and the access point relays. A multicast frame goes up like any other and comes down at the lowest
basic rate, 1 Mbit/s, unacknowledged: each station loses it with probability `loss`. A frame arrives half a round trip after it has left
the air. A frame that would wait longer than QUEUE_S is dropped, as in a full queue. When this process is late, frames may catch up by the
time that BURST_BYTES take, as with a `tbf` of that burst.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

QUEUE_S = 0.3
BURST_BYTES = 16_000
BASIC_BITS_PER_S = 1e6
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
ETHERNET, IPV4, TCP = 14, 0x0800, 6
PR_SET_TIMERSLACK = 29


class Station:
    """A TAP, and counters of what it has received and sent."""

    def __init__(self, name):
        self.name = name
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        self.counts = {
            "sent_bytes": 0,
            "received_bytes": 0,
            "tcp_sent": 0,
            "tcp_received": 0,
            "multicast_sent": 0,
            "lost": 0,
        }


def tcp_payload(frame):
    """Bytes of a TCP segment's payload; 0 for anything else."""
    if (
        len(frame) < ETHERNET + 40
        or struct.unpack_from("!H", frame, 12)[0] != IPV4
        or frame[23] != TCP
    ):
        return 0
    header = (frame[ETHERNET] & 15) * 4
    data = (frame[ETHERNET + header + 12] >> 4) * 4
    return struct.unpack_from("!H", frame, 16)[0] - header - data


class Relay:
    """Carries frames until its input ends."""

    def __init__(self, names, rate, round_trip_s, loss, crossings, seed):
        self.stations = [Station(name) for name in names]
        self.rate, self.delay, self.loss, self.crossings = rate, round_trip_s / 2, loss, crossings
        self.dice = random.Random(seed)
        self.where = {}
        self.free_at, self.air_s, self.dropped, self.order = 0.0, 0.0, 0, 0
        self.due = []
        self.later = []

    def obey(self, line, now):
        """Runs a command and answers with the counters."""
        command = json.loads(line)
        if "after_s" in command:
            heapq.heappush(self.later, (now + command.pop("after_s"), json.dumps(command)))
        for name in ("rate", "loss"):
            setattr(self, name, command.get(name, getattr(self, name)))
        told = {
            "air_s": self.air_s,
            "dropped": self.dropped,
            "stations": {one.name: one.counts for one in self.stations},
        }
        print(json.dumps(told), flush=True)

    def take(self, sender, now):
        """Reads every frame that a station sends."""
        while True:
            try:
                frame = os.read(sender.fd, 4096)
            except BlockingIOError:
                return
            to, source, many = frame[0:6], frame[6:12], frame[0] & 1
            self.where[source] = sender
            payload = tcp_payload(frame)
            sender.counts["sent_bytes"] += len(frame)
            sender.counts["tcp_sent"] += payload
            sender.counts["multicast_sent"] += many
            start = max(self.free_at, now - 8 * BURST_BYTES / self.rate)
            if start - now > QUEUE_S:
                self.dropped += 1
                continue
            bits = 8 * len(frame)
            takes = (
                bits / self.rate + bits / BASIC_BITS_PER_S
                if many
                else self.crossings * bits / self.rate
            )
            self.air_s += takes
            self.free_at = start + takes
            known = None if many else self.where.get(to)
            others = [known] if known else [one for one in self.stations if one is not sender]
            for receiver in others:
                if many and to != b"\xff" * 6 and self.dice.random() < self.loss:
                    receiver.counts["lost"] += 1
                    continue
                self.order += 1
                heapq.heappush(
                    self.due,
                    (max(self.free_at, now) + self.delay, self.order, receiver, frame, payload),
                )

    def give(self, now):
        """Delivers every frame that has arrived by now."""
        while self.due and self.due[0][0] <= now:
            _, _, receiver, frame, payload = heapq.heappop(self.due)
            try:
                os.write(receiver.fd, frame)
            except OSError:
                continue
            receiver.counts["received_bytes"] += len(frame)
            receiver.counts["tcp_received"] += payload

    def run(self):
        by_fd = {one.fd: one for one in self.stations}
        print(json.dumps([one.name for one in self.stations]), flush=True)
        commands = ""
        while True:
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                change = json.loads(heapq.heappop(self.later)[1])
                self.rate, self.loss = (
                    change.get("then_rate", self.rate),
                    change.get("then_loss", self.loss),
                )
            first = min([due[0] for due in (self.due[:1] + self.later[:1])], default=now + 1)
            ready, _, _ = select.select([0, *by_fd], [], [], max(0.0, min(first - now, 1.0)))
            now = time.monotonic()
            for fd in ready:
                if fd:
                    self.take(by_fd[fd], now)
                    continue
                read = os.read(0, 4096).decode()
                if not read:
                    return
                *lines, commands = (commands + read).split("\n")
                for line in lines:
                    self.obey(line, now)
            self.give(time.monotonic())


class Air:
    """The radio for an experiment: namespaces with one station each, and a relay process between them."""

    def __init__(self, stations, rate, round_trip_s=0.006, loss=0.0, crossings=1, seed=1, mark="a"):
        self.settings = {
            "rate": rate,
            "round_trip_s": round_trip_s,
            "loss": loss,
            "crossings": crossings,
            "seed": seed,
        }
        self.names = [f"pe{os.getpid()}{mark}{number}" for number in range(1, stations + 1)]
        self.addresses = [
            f"10.78.{1 + ord(mark) % 200}.{number}" for number in range(1, stations + 1)
        ]

    def __enter__(self):
        taps = [f"t{name[2:]}" for name in self.names]
        self.relay = subprocess.Popen(
            [sys.executable, __file__, json.dumps({"names": taps, **self.settings})],
            text=True,
            bufsize=1,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.relay.stdout.readline()
        for name, address, tap in zip(self.names, self.addresses, taps):
            ip("netns", "add", name)
            ip("link", "set", tap, "netns", name)
            ip("-n", name, "link", "set", tap, "name", "wlan0")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "wlan0")
            ip("-n", name, "link", "set", "wlan0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        self.relay.stdin.close()
        self.relay.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)

    def tell(self, **command):
        """Changes settings, if any are given; returns the counters since the start."""
        print(json.dumps(command), file=self.relay.stdin, flush=True)
        told = json.loads(self.relay.stdout.readline())
        told["stations"] = [told["stations"][f"t{name[2:]}"] for name in self.names]
        return told

    def within(self, number):
        """The prefix of a command that runs at a station, counted from 0."""
        return ["ip", "netns", "exec", self.names[number]]


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def first_of_all():
    """Raises this process's priority: the radio must not be late."""
    os.nice(-15)
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write("-15")
    except OSError:
        pass


def main():
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1_000, 0, 0, 0)
    first_of_all()
    Relay(**json.loads(sys.argv[1])).run()


if __name__ == "__main__":
    main()

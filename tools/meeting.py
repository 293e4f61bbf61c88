#!/usr/bin/env python3
"""Measures what concurrent computing and fetching saves between real processes: `make meeting`.

    meeting.py POTLUCK MODEL.gguf [--rate 20mbit] [--tokens 405] [--rounds 5] [--json OUT]

Two `potluck run` processes in separate network namespaces are joined by a bridge whose ports a `tbf` limits to --rate. A cgroup
(cpu.cfs_quota_us) slows the asking node so that computing --tokens tokens takes as long as fetching their state over that link. Each
round measures, one after the other:

    compute   a prompt that no node has: the time to its first token (TTFT)
    fetch     as many bytes as that prompt's state, over a bare TCP connection on the same link: a lower bound for any protocol
    both      a prompt that the peer has: its TTFT

and compares the medians: `both` against the better of the other two. Needs root, iproute2 and cgroups, version 1 or 2.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PERIOD_US = 10_000
# Bytes of KV state per token: int8, all layers of the 270M shape.
TOKEN_BYTES = 9_792


class Lan:
    """A bridge with two stations, in namespaces named after this process."""

    def __init__(self, rate):
        self.switch = f"pm{os.getpid()}s"
        self.stations = [f"pm{os.getpid()}n{number}" for number in (1, 2)]
        self.rate = rate

    def __enter__(self):
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        ip("-n", self.switch, "link", "set", "br0", "up")
        for number, station in enumerate(self.stations, 1):
            port = f"p{number}"
            ip("netns", "add", station)
            ip(
                "link",
                "add",
                "eth0",
                "netns",
                station,
                "type",
                "veth",
                "peer",
                "name",
                port,
                "netns",
                self.switch,
            )
            ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
            ip("-n", station, "addr", "add", f"10.77.9.{number}/24", "dev", "eth0")
            ip("-n", station, "link", "set", "eth0", "up")
            ip("-n", station, "link", "set", "lo", "up")
            run(
                "ip",
                "netns",
                "exec",
                self.switch,
                "tc",
                "qdisc",
                "add",
                "dev",
                port,
                "root",
                "tbf",
                "rate",
                self.rate,
                "burst",
                "16kb",
                "latency",
                "200ms",
            )
        return self

    def __exit__(self, *_):
        for name in [*self.stations, self.switch]:
            subprocess.run(["ip", "netns", "del", name], check=False)


class Quota:
    """A cgroup that slows a process down, of the version that this machine has."""

    def __init__(self, pid):
        v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.group = (
            Path("/sys/fs/cgroup" if v2 else "/sys/fs/cgroup/cpu")
            / f"potluck-meeting-{os.getpid()}"
        )
        self.v2 = v2
        if v2:
            Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+cpu")
        self.group.mkdir()
        (self.group / "cgroup.procs").write_text(str(pid))

    def set(self, share):
        """The share of one core: 0.25 is a quarter; None is the whole machine."""
        quota = -1 if share is None else max(1_000, int(share * PERIOD_US))
        if self.v2:
            (self.group / "cpu.max").write_text(f"{'max' if quota < 0 else quota} {PERIOD_US}")
        else:
            (self.group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self.group / "cpu.cfs_quota_us").write_text(str(quota))

    def close(self):
        self.group.rmdir()


class Node:
    """One `potluck run --json`, on a single core unless told otherwise, started by the command `within`."""

    def __init__(self, binary, model, options, within=(), environment=None, threads=1):
        self.process = subprocess.Popen(
            [
                *within,
                binary,
                "run",
                "--json",
                "--raw",
                "--model",
                model,
                "--slab",
                "64",
                "--max-tokens",
                "1",
                "--threads",
                str(threads),
                "--announce",
                "1",
                *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **(environment or {})},
        )
        self.asked = 0
        self.hear(lambda event: event.get("event") == "ready")

    def hear(self, is_it):
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") in ("failed", "error"):
                sys.exit(f"a node refused: {line}")
            if is_it(event):
                return event
        sys.exit("a node ended")

    def ask(self, text, **settings):
        """The figures of an answer."""
        return self.ask_whole(text, **settings)["figures"]

    def ask_whole(self, text, **settings):
        """An answer's event `done`, with its text."""
        self.asked += 1
        request = {"ask": text, "id": self.asked, **settings}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.hear(lambda event: event.get("event") == "done" and event["id"] == self.asked)

    def status(self):
        print(json.dumps({"command": "status"}), file=self.process.stdin, flush=True)
        return self.hear(lambda event: event.get("event") == "status")["status"]

    def end(self):
        self.process.kill()
        self.process.wait()


def run(*command):
    subprocess.run(command, check=True)


def ip(*arguments):
    run("ip", *arguments)


def bare_transfer(lan, count):
    """Seconds that `count` bytes take from the first station to the second over bare TCP."""
    give = (
        "import socket\ns = socket.create_server(('10.77.9.1', 9))\nprint(flush=True)\nc = s.accept()[0]\n"
        f"c.recv(1)\nc.sendall(bytes({count}))\nc.recv(1)"
    )
    take = (
        "import socket, time\nc = socket.create_connection(('10.77.9.1', 9))\nstart = time.monotonic()\nc.send(b'x')\n"
        f"left = {count}\nwhile left:\n    left -= len(c.recv(min(left, 1 << 16)))\nprint(time.monotonic() - start)"
    )
    inside = ["ip", "netns", "exec"]
    giver = subprocess.Popen(
        [*inside, lan.stations[0], sys.executable, "-c", give], stdout=subprocess.PIPE
    )
    giver.stdout.readline()
    taken = subprocess.run(
        [*inside, lan.stations[1], sys.executable, "-c", take],
        check=True,
        capture_output=True,
        text=True,
    )
    giver.wait()
    return float(taken.stdout)


def wait_until_known(asker, giver):
    """Waits until the asking node knows everything that the other holds."""
    for _ in range(600):
        told = giver.status()
        peers = [peer for peer in asker.status()["peers"] if peer["node"] == told["node"]]
        if (
            told["told"]
            and peers
            and peers[0]["current"]
            and peers[0]["generation"] >= told["generation"]
        ):
            return
        time.sleep(0.1)
    sys.exit("the asking node did not learn what the other holds within a minute")


class Texts:
    """Prompts of exactly the wanted number of tokens, each with a different beginning."""

    def __init__(self, binary, model, tokens, source):
        self.words = source.split()
        self.binary, self.model, self.tokens = binary, model, tokens
        self.made = 0

    def count(self, text):
        ids = subprocess.run(
            [self.binary, "tokenize", "--json", "--model", self.model, "-"],
            input=text,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return len(json.loads(ids.splitlines()[-1])["tokens"])

    def next(self):
        self.made += 1
        words = [f"Question {self.made}:", *self.words[7 * self.made :]]
        low, high = 1, min(len(words), 2 * self.tokens)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high)
                if self.count(" ".join(words[:middle])) <= self.tokens
                else (low, middle - 1)
            )
        return " ".join(words[:low])


def measure(args):
    source = (Path(__file__).parent / "quality" / "prose.txt").read_text()
    texts = Texts(args.binary, args.model, args.tokens, source)
    rows = []
    with Lan(args.rate) as lan:
        giver, asker = (
            Node(
                args.binary, args.model, ["--interface", address], ["ip", "netns", "exec", station]
            )
            for station, address in zip(lan.stations, ("10.77.9.1", "10.77.9.2"))
        )
        quota = Quota(asker.process.pid)
        try:
            fetch = bare_transfer(lan, args.tokens * TOKEN_BYTES)
            asker.ask(texts.next())
            alone = asker.ask(texts.next())["ttft_ms"] / 1_000
            share = alone / fetch
            for _ in range(3):
                quota.set(share)
                took = asker.ask(texts.next())["ttft_ms"] / 1_000
                share *= took / fetch
            print(
                f"a core computes {args.tokens} tokens in {alone:.2f} s; limited to {share:.3f} of it",
                file=sys.stderr,
            )
            for number in range(args.rounds + 1):
                quota.set(share)
                compute = asker.ask(texts.next())
                fetch = bare_transfer(lan, args.tokens * TOKEN_BYTES)
                text = texts.next()
                giver.ask(text)
                wait_until_known(asker, giver)
                both = asker.ask(text)
                row = {
                    "tokens": both["prompt_tokens"],
                    "compute_s": compute["ttft_ms"] / 1_000,
                    "fetch_s": fetch,
                    "both_s": both["ttft_ms"] / 1_000,
                    "computed": both["computed"],
                }
                print(json.dumps(row), file=sys.stderr, flush=True)
                # In the first round the peer's rate is still unknown.
                if number > 0:
                    rows.append(row)
        finally:
            asker.end()
            giver.end()
            quota.close()
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    medians["ratio"] = medians["both_s"] / min(medians["compute_s"], medians["fetch_s"])
    return {"rate": args.rate, "rounds": rows, "medians": medians}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--rate", default="20mbit")
    parser.add_argument("--tokens", type=int, default=405)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    result = measure(args)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["medians"]))


if __name__ == "__main__":
    main()

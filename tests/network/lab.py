"""Hosts and switches, each in its own network namespace, and real nodes on them. Everything is removed at the end."""

import json
import os
import queue
import random
import shutil
import subprocess
import tempfile
import threading
import time


class Failed(Exception):
    """A promise did not hold."""


def sh(*words, check=True):
    ran = subprocess.run(words, capture_output=True, text=True)
    if check and ran.returncode:
        raise Failed(f"{' '.join(words)}: {ran.stderr.strip()}")
    return ran.stdout


def why_not():
    """Why this machine cannot be used, or None."""
    if os.geteuid():
        return "only root may create network namespaces"
    for tool in ("ip", "bridge"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    name = f"pl{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "network namespaces are not permitted here"
    made = [
        subprocess.run(
            ["ip", "-n", name, "link", "add", f"a{number}", *what], capture_output=True
        ).returncode
        for number, what in enumerate((["type", "bridge"], ["type", "veth", "peer", "name", "b"]))
    ]
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "bridges and veth pairs are not permitted here" if any(made) else None


class Lab:
    """A set of hosts and switches."""

    def __init__(self, binary, model, key):
        self.binary, self.model, self.key = binary, model, key
        self.prefix = f"pl{os.getpid()}"
        self.spaces, self.nodes = [], []
        self.folder = tempfile.mkdtemp(prefix="potluck-network-")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.end()
        for space in self.spaces:
            sh("ip", "netns", "del", space, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def space(self, name):
        name = f"{self.prefix}-{name}"
        sh("ip", "netns", "add", name)
        self.spaces.append(name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def switch(self, name, *options):
        """A bridge in its own namespace, so that none of this machine's rules apply to it."""
        space = self.space(name)
        options = options or ("mcast_snooping", "0")
        sh("ip", "-n", space, "link", "add", "br0", "type", "bridge", *options)
        sh("ip", "-n", space, "link", "set", "br0", "up")
        return space

    def plug(self, host, interface, switch, *addresses):
        """Gives a host an interface on a switch; the switch's port is named after both."""
        port = f"{host.split('-')[-1]}{interface}"
        sh(
            "ip",
            "link",
            "add",
            interface,
            "netns",
            host,
            "type",
            "veth",
            "peer",
            "name",
            port,
            "netns",
            switch,
        )
        sh("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
        for address in addresses:
            sh("ip", "-n", host, "addr", "add", address, "dev", interface)
        sh("ip", "-n", host, "link", "set", interface, "up")
        return port

    def node(self, host, number, *more):
        node = Node(self, host, number, more)
        self.nodes.append(node)
        return node


class Node:
    """`potluck run --json` on a host."""

    def __init__(self, lab, host, number, more):
        self.number = f"{number:016x}"
        environment = dict(os.environ, XDG_CACHE_HOME=lab.folder)
        words = [
            lab.binary,
            "run",
            "--json",
            "--model",
            lab.model,
            "--slab",
            "16",
            "--max-tokens",
            "4",
            "--raw",
        ]
        words += ["--swarm-key", lab.key, "--id", f"{number:x}", "--log", "info", *more]
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", host, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.events, self.notes = queue.Queue(), []
        threading.Thread(target=self.read, daemon=True).start()
        self.wait("ready", 60)

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "note":
                self.notes.append(event["text"])
            else:
                self.events.put(event)

    def say(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def wait(self, kind, seconds):
        end = time.monotonic() + seconds
        while True:
            try:
                event = self.events.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise Failed(
                    f"no {kind} from node {self.number} in {seconds} s; it said {self.notes}"
                ) from None
            if event["event"] == kind:
                return event
            if event["event"] in ("error", "failed"):
                raise Failed(f"node {self.number}: {event}")

    def command(self, word):
        self.say({"command": word})
        return self.wait(word, 20)

    def status(self):
        return self.command("status")["status"]

    def ask(self, prompt):
        self.say({"ask": prompt, "id": random.randrange(1 << 30)})
        return self.wait("done", 120)

    def knows(self, other):
        """Whether it has the other's current catalog."""
        told = other.status()
        for peer in self.status()["peers"]:
            if peer["node"] == other.number:
                return (
                    peer["shares"]
                    and peer["current"]
                    and peer["generation"] >= told["generation"]
                    and told["told"]
                )
        return False

    def end(self):
        self.process.kill()
        self.process.wait()


def until(what, seconds, check, every=0.2):
    """Waits until `check` holds; returns how many seconds it took."""
    start = time.monotonic()
    while True:
        if check():
            return time.monotonic() - start
        if time.monotonic() - start > seconds:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(every)


WORDS = "river stone cloud garden window letter summer market silver forest engine bridge candle harbour".split()


def prompt(seed, words=260):
    dice = random.Random(seed)
    return " ".join(dice.choice(WORDS) for _ in range(words))


def share_both_ways(one, other, seed, seconds):
    """Each node reuses what the other computes; returns the seconds until each knew what the other holds."""
    took = until(
        "each knows what the other holds", seconds, lambda: one.knows(other) and other.knows(one)
    )
    for giver, asker, which in ((one, other, 0), (other, one, 1)):
        text = prompt(2 * seed + which)
        answer = giver.ask(text)
        until("the peer hears of a new block", 20, lambda: asker.knows(giver))
        again = asker.ask(text)
        if again["tokens"] != answer["tokens"]:
            raise Failed("another answer")
        given = sum(count for _, count in again["figures"]["peers"])
        if given * 2 < again["figures"]["prompt_tokens"]:
            raise Failed(f"node {asker.number} reused {given} of {again['figures']}")
    return took

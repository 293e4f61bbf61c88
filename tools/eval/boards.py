"""The nodes of an experiment: `potluck run --json` processes, on any machine."""

import json
import os
import queue
import shlex
import subprocess
import sys
import threading
import time

TIMEOUT_S = 600
RUNNING = set()


class Board:
    """One node, started by `command`: a list, or a line for the shell (`ssh board1 potluck run --json ...`)."""

    def __init__(self, name, command, environment=None):
        self.name, self.asked = name, 0
        shell = isinstance(command, str)
        self.spawned = time.monotonic()
        self.process = subprocess.Popen(
            command,
            shell=shell,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **(environment or {})},
        )
        self.lines = queue.Queue()
        RUNNING.add(self)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def hear(self, is_it, timeout_s=TIMEOUT_S):
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(
                    f"{self.name} did not give the requested event within {timeout_s} s"
                ) from None
            if line is None:
                raise RuntimeError(f"{self.name} ended")
            event = json.loads(line)
            if event["event"] in ("failed", "error"):
                raise RuntimeError(f"{self.name} refused: {line}")
            if is_it(event):
                return event

    def ready(self):
        """Waits until it accepts prompts; returns the seconds since its start."""
        self.model = self.hear(lambda event: event["event"] == "ready")
        return time.monotonic() - self.spawned

    def say(self, request):
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def begin(self, text, max_tokens):
        self.asked += 1
        self.say({"ask": text, "raw": True, "id": self.asked, "max_tokens": max_tokens})
        return self.asked

    def end_of(self, asked):
        return self.hear(lambda event: event["event"] == "done" and event["id"] == asked)

    def ask(self, text, max_tokens=1):
        """The whole answer: text, tokens and figures."""
        return self.end_of(self.begin(text, max_tokens))

    def status(self):
        self.say({"command": "status"})
        return self.hear(lambda event: event["event"] == "status")

    def forget(self):
        """Makes the whole swarm drop its blocks, and waits until every node acknowledges."""
        self.say({"command": "reset", "store": True})
        self.hear(lambda event: event["event"] == "reset_ended", 60)

    def end(self):
        RUNNING.discard(self)
        self.process.kill()
        self.process.wait()


def end_all():
    """Ends every board: threads that wait for one of them fail and clean up."""
    for board in list(RUNNING):
        board.process.kill()


def local(binary, model, options, within=()):
    """The command of a node on one core of this machine, which announces at once what it holds."""
    return [
        *within,
        binary,
        "run",
        "--json",
        "--model",
        model,
        "--threads",
        "1",
        "--announce",
        "1",
        *options,
    ]


def from_lines(lines):
    """Real boards, each started by a shell command that speaks JSON."""
    return [
        Board(shlex.split(line)[1] if line.startswith("ssh ") else f"board {number}", line)
        for number, line in enumerate(lines, 1)
    ]


def wait_until_known(asker, *givers):
    """Waits until the asking node knows everything that the others hold."""
    for giver in givers:
        for _ in range(1_200):
            told = giver.status()["status"]
            peers = [
                peer for peer in asker.status()["status"]["peers"] if peer["node"] == told["node"]
            ]
            if (
                told["told"]
                and peers
                and peers[0]["shares"]
                and peers[0]["current"]
                and peers[0]["generation"] >= told["generation"]
            ):
                break
            time.sleep(0.05)
        else:
            sys.exit(
                f"{asker.name} did not learn what {giver.name} holds within a minute: does the network carry multicast?"
            )

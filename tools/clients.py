#!/usr/bin/env python3
"""Measures the cost of many concurrent clients of the HTTP API: `make crowd`.

    clients.py POTLUCK MODEL.gguf [--clients 50] [--seconds 300] [--json OUT]

Runs one `potluck run` with HTTP and a console of JSON lines. Every client has its own conversation, which it sends whole with each
turn, alternately as a stream and as one answer. It abandons one stream in ten midway, as people do. A client that is refused with 429
waits as Retry-After says, and asks again. Meanwhile the console asks one prompt after another. At the end these must hold:

    no request is lost: each ends with an answer, or was abandoned by its client
    the console was answered all the time
    the node's memory is flat after the first fifth of the time (at most 5 MB more)

Before and after, `overhead` compares the time to the first token over HTTP with that on the console, on an idle node: the same prompt,
found in the slab, alternately. Needs only Python's standard library and Linux.
"""

import argparse
import http.client
import json
import queue
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

FLAT_BYTES = 5_000_000
TIMEOUT_S = 120
CHAT = "/v1/chat/completions"
WORDS = "board state prompt token answer swarm prefix block network memory model question people water light".split()


class Node:
    """A node, its console and its address."""

    def __init__(self, program, model):
        port = free_port()
        command = [
            program,
            "run",
            "--json",
            "--model",
            model,
            "--http",
            "127.0.0.1:0",
            "--interface",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port, ready = None, False
        while self.port is None or not ready:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit("the node ended before it was ready")
            event = json.loads(line)
            if "page on http://" in event.get("text", ""):
                self.port = int(event["text"].rsplit(":", 1)[1].rstrip("/"))
            ready |= event["event"] == "ready"
        self.events = queue.Queue()
        threading.Thread(target=self.hear, daemon=True).start()

    def hear(self):
        for line in self.process.stdout:
            self.events.put((time.monotonic(), json.loads(line)))

    def ask(self, text, tokens):
        """An answer on the console: seconds to its first token and to its last."""
        began = time.monotonic()
        self.process.stdin.write(
            json.dumps({"id": 1, "chat": text, "conversation": "one", "max_tokens": tokens}) + "\n"
        )
        self.process.stdin.write(json.dumps({"command": "new", "conversation": "one"}) + "\n")
        self.process.stdin.flush()
        first = None
        while True:
            at, event = self.events.get(timeout=TIMEOUT_S)
            if event["event"] == "failed":
                raise RuntimeError(event["reason"])
            if event["event"] == "text" and first is None:
                first = at - began
            if event["event"] == "done":
                return first, at - began, event["figures"]

    def resident(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")
        )

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=30)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def events(response):
    """Yields the data of server-sent events as they arrive."""
    for line in response:
        if line.startswith(b"data: ") and line != b"data: [DONE]\n":
            yield json.loads(line[6:])


class Client(threading.Thread):
    """One client: conversations of a few turns each, until the time is over."""

    def __init__(self, port, number, end):
        super().__init__(daemon=True)
        self.port, self.random, self.end = port, random.Random(number), end
        self.answered = self.left = self.waits = 0
        self.lost, self.times = [], []

    def run(self):
        messages = []
        while time.monotonic() < self.end:
            if len(messages) >= 8:
                messages = []
            messages.append({"role": "user", "content": " ".join(self.random.choices(WORDS, k=12))})
            stream, leaves = self.random.random() < 0.5, self.random.random() < 0.1
            try:
                text = self.turn(messages, stream, leaves and stream)
            except Exception as error:  # Any error means a lost request.
                self.lost.append(f"{type(error).__name__}: {error}")
                text = None
            if text is None:
                messages = []
            else:
                messages.append({"role": "assistant", "content": text})

    def turn(self, messages, stream, leaves):
        body = json.dumps(
            {
                "messages": messages,
                "max_tokens": 16,
                "stream": stream,
                "stream_options": {"include_usage": True},
            }
        )
        began = time.monotonic()
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
            connection.request("POST", CHAT, body, {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status == 429:
                self.waits += 1
                response.read()
                connection.close()
                time.sleep(int(response.headers["retry-after"]))
                continue
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {response.read(200)}")
            break
        if not stream:
            text = json.load(response)["choices"][0]["message"]["content"]
        else:
            text, over = "", False
            for event in events(response):
                over |= event.get("usage") is not None
                text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
                if leaves and text:
                    self.left += 1
                    connection.close()
                    return None
            if not over:
                raise RuntimeError(f"the stream ended midway, after {text!r}")
        connection.close()
        self.answered += 1
        self.times.append(time.monotonic() - began)
        return text


def overhead(node, rounds=40):
    """Seconds to the first token of one prompt that is in the slab: alternately streamed over HTTP and on the console."""
    prompt, over_http, on_console = " ".join(WORDS) * 2, [], []
    body = json.dumps(
        {"messages": [{"role": "user", "content": prompt}], "max_tokens": 2, "stream": True}
    )
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=TIMEOUT_S)
    for _ in range(rounds):
        on_console.append(node.ask(prompt, 2)[0])
        began = time.monotonic()
        connection.request("POST", CHAT, body, {"content-type": "application/json"})
        response = connection.getresponse()
        first = next(
            time.monotonic()
            for event in events(response)
            if event["choices"][0]["delta"].get("content")
        )
        over_http.append(first - began)
        response.read()
    connection.close()
    # The first answer of each computes what the others find in the slab.
    medians = [statistics.median(times[1:]) * 1e3 for times in (over_http, on_console)]
    return {"http_ms": medians[0], "console_ms": medians[1], "more_ms": medians[0] - medians[1]}


def crowd(node, clients, seconds):
    begin = time.monotonic()
    all_clients = [Client(node.port, number, begin + seconds) for number in range(clients)]
    for client in all_clients:
        client.start()
    resident, console = [], []
    while time.monotonic() < begin + seconds:
        console.append(node.ask(" ".join(random.choices(WORDS, k=8)), 4)[1])
        resident.append((time.monotonic() - begin, node.resident()))
        time.sleep(1)
    for client in all_clients:
        client.join(timeout=TIMEOUT_S)
    hung = sum(client.is_alive() for client in all_clients)
    settled = [held for at, held in resident if at > seconds / 5]
    times = sorted(took for client in all_clients for took in client.times)
    return {
        "clients": clients,
        "seconds": seconds,
        "answered": sum(client.answered for client in all_clients),
        "left": sum(client.left for client in all_clients),
        "waited_after_429": sum(client.waits for client in all_clients),
        "lost": [lost for client in all_clients for lost in client.lost],
        "hung": hung,
        "median_s": statistics.median(times),
        "longest_s": times[-1],
        "console_answers": len(console),
        "console_median_s": statistics.median(console),
        "console_longest_s": max(console),
        "resident_first_bytes": settled[0],
        "resident_last_bytes": settled[-1],
        "resident_most_bytes": max(settled),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--json")
    args = parser.parse_args()
    node = Node(args.program, args.model)
    try:
        report = {
            "overhead_before": overhead(node),
            "crowd": crowd(node, args.clients, args.seconds),
            "overhead_after": overhead(node),
        }
    finally:
        node.end()
    text = json.dumps(report, indent=1)
    print(text)
    if args.json:
        Path(args.json).write_text(text + "\n")
    result = report["crowd"]
    wrong = []
    if result["lost"] or result["hung"]:
        wrong.append(
            f"{len(result['lost'])} requests were lost, and {result['hung']} clients hang"
        )
    if result["resident_last_bytes"] - result["resident_first_bytes"] > FLAT_BYTES:
        wrong.append("the node's memory grew")
    if not result["console_answers"]:
        wrong.append("the console was not answered")
    if wrong:
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()

"""The published topology on the same radio, and llama.cpp's own saved states on this machine: measured, not quoted."""

import json
import os
import statistics
import subprocess
import sys
import time

from air import Air
from costs import Pace, published_bytes
from rigs import FIRST

# A client of Redis: SET or GET of one key, and the seconds until the last byte.
CLIENT = """
import os, socket, sys, time
what, address, key, count = sys.argv[1], sys.argv[2], sys.argv[3].encode(), int(sys.argv[4])
value = os.urandom(count) if what == "SET" else b""
wire = socket.create_connection((address, 6379))
wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
parts = [what.encode(), key] + ([value] if what == "SET" else [])
start = time.monotonic()
wire.sendall(b"*%d\\r\\n" % len(parts) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(part), part) for part in parts))
answer = b""
while b"\\r\\n" not in answer:
    answer += wire.recv(1 << 16)
if answer.startswith(b"$"):
    left = int(answer[1:answer.index(b"\\r\\n")]) + 2 - (len(answer) - answer.index(b"\\r\\n") - 2)
    while left > 0:
        left -= len(wire.recv(1 << 16))
elif not answer.startswith(b"+OK"):
    sys.exit(answer.decode())
print(time.monotonic() - start)
"""


class Redis:
    """Whole states of f16, each with a row of f32 logits, through one Redis server on the radio, for prompts of the same lengths."""

    def __init__(self, lab, pace, rate, chosen):
        self.lab, self.pace, self.rate, self.chosen = lab, pace, rate, chosen
        self.name = f"redis {pace} {rate}"

    def keys(self):
        for subject in self.chosen:
            for shots in (0, 5):
                yield f"{self.name} {subject.name} N={shots}", (subject, shots)

    def run(self, todo, mark):
        lab, costs = self.lab, Pace(self.lab.pace(self.pace))
        with Air(
            2,
            self.rate * 1e6,
            lab.args.round_trip_ms / 1e3,
            0.0,
            lab.args.crossings,
            lab.args.seed,
            mark,
        ) as air:
            server = subprocess.Popen(
                [
                    *air.within(0),
                    "redis-server",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--protected-mode",
                    "no",
                    "--dir",
                    "/tmp",
                    "--bind",
                    air.addresses[0],
                ],
                stdout=subprocess.DEVNULL,
            )
            try:
                time.sleep(1)
                for key, (subject, shots) in todo:
                    number, _ = lab.pairs(subject)[0]
                    tokens = len(lab.tokens.of(subject.cases(shots, number, number)[0]))
                    count, load = published_bytes(tokens), os.getloadavg()[0]

                    def call(what):
                        command = [
                            *air.within(1),
                            sys.executable,
                            "-c",
                            CLIENT,
                            what,
                            air.addresses[0],
                            key,
                            str(count),
                        ]
                        return float(
                            subprocess.run(
                                command, check=True, capture_output=True, text=True
                            ).stdout
                        )

                    put = call("SET")
                    got = [call("GET") for _ in range(3)]
                    yield (
                        key,
                        {
                            "kind": "redis",
                            "pace": self.pace,
                            "rate": self.rate,
                            "subject": subject.name,
                            "shots": shots,
                            "tokens": tokens,
                            "bytes": count,
                            "set_s": put,
                            "get_s": statistics.median(got),
                            "gets_s": got,
                            "miss_s": costs.miss_s(tokens),
                            "load": load,
                            "equal": True,
                        },
                    )
            finally:
                server.terminate()
                server.wait()


class Llama:
    """llama.cpp's own save and load of its state on this machine, on the same prompts (tools/bench-peer state)."""

    def __init__(self, lab, chosen):
        self.lab, self.chosen, self.name = lab, chosen, "llama.cpp"

    def keys(self):
        for subject in self.chosen:
            for shots in (0, 5):
                yield f"{self.name} {subject.name} N={shots}", (subject, shots)

    def run(self, todo, mark):
        lab = self.lab
        lines = []
        for key, (subject, shots) in todo:
            number, _ = lab.pairs(subject)[0]
            lines.append(
                json.dumps(
                    {"key": key, "ids": lab.tokens.of(subject.cases(shots, number, number)[0])}
                )
            )
        command = [
            *(FIRST if os.geteuid() == 0 else ()),
            lab.args.peer,
            "state",
            "--model",
            lab.args.model,
            "-",
        ]
        told = subprocess.run(
            command, input="\n".join(lines) + "\n", check=True, capture_output=True, text=True
        ).stdout
        for line, (key, (subject, shots)) in zip(told.splitlines(), todo):
            row = json.loads(line)
            # Whether llama.cpp continues with the same tokens is a finding, not an error.
            yield (
                key,
                {
                    **row,
                    "same": row["equal"],
                    "equal": True,
                    "kind": "llama",
                    "subject": subject.name,
                    "shots": shots,
                },
            )

#!/usr/bin/env python3
"""Measures the published tables of distributed prompt caching (arXiv 2602.22812) again: `make paper`.

    paper.py POTLUCK MODEL.gguf [--mmlu DIR] [--subjects 12] [--questions 1] [--repetitions 1] [--seed 1] [--kept FILE.jsonl]

Each experiment runs real `potluck run --json` processes on an emulated radio (air.py), the asking one at the pace of a board
(`--pace`), and writes a line of JSON for each answer. A stopped run resumes where it was. The same seed gives the same prompts, matches
and answers; the block at which computing and fetching meet depends on timing. --boards takes command lines of real boards instead, such
as "ssh board1 potluck run --json --raw", at their own pace and on their own radio. At the end the tables and pictures are generated
(report.py, pictures.py). Fails if any answer differs from computing alone. Needs root and redis-server for the radio; without root
everything runs on loopback, and the report says so.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import boards
import pictures
import report
from experiments import Case, Day, Giver, Long, Start, Trouble
from prompts import Tokens, subjects
from rigs import Reference
from rivals import Llama, Redis

HERE = Path(__file__).parent
CASES = (1, 2, 3, 4, 5)


class Lab:
    """State that the experiments share."""

    def __init__(self, args):
        self.args = args
        self.tokens = Tokens(args.binary, args.model)
        self.chosen = subjects(Path(args.mmlu), args.only, args.subjects, args.seed)
        self.reference = Reference(args)
        self.lock = threading.Lock()
        self.began = time.monotonic()
        self.done, self.all = 0, 0
        self.failed = []

    def pace(self, name):
        """The file of a pace; None for boards at their own pace."""
        return str(HERE / f"{name}.toml")

    def pairs(self, subject):
        """The questions to ask, each with the one that was asked before."""
        drawn = subject.drawn(self.args.questions, self.args.seed)
        return [
            (number, drawn[(at + 1) % len(drawn)])
            for at, number in enumerate(drawn[: self.args.questions])
        ]

    def holds(self, text, answer):
        return self.reference.holds(text, answer)

    def tell(self, line):
        took = time.monotonic() - self.began
        left = took / self.done * (self.all - self.done) if self.done else 0.0
        print(
            f"\r{self.done}/{self.all} rows, {took / 60:.0f} min, {left / 60:.0f} left: {line:<70.70}",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def keep(self, key, row):
        row = {**row, "at": round(time.time(), 1), "ran": measured_with(self.args)}
        if self.args.boards and "pace" in row:
            row["pace"] = "boards"
        with self.lock:
            with open(self.args.kept, "a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **row}) + "\n")
            self.done += 1
            self.tell(key)
            if not row["equal"]:
                self.failed.append(f"{key}: the answer is not that of computing alone")


def plan(lab):
    """Every experiment: whole answers where the published table has times to the last token."""
    chosen, few, two = lab.chosen, lab.chosen[:4], lab.chosen[:2]
    longest = sorted(
        chosen, key=lambda subject: -len(subject.prompt(subject.examples, subject.questions[0]))
    )[:2]
    both = (1, 5)
    experiments = [
        Case(lab, "zero2w", 20.9, 0, chosen, CASES, whole=both),
        Case(lab, "zero2w", 20.9, 5, chosen, CASES),
        Case(lab, "paper", 20.9, 0, few, CASES, whole=both),
        Day(lab, "zero2w", 20.9, 8, chosen),
        Case(lab, "paper-partial", 20.9, 5, two, CASES),
        Case(lab, "zero2w", 20.9, 1, chosen, CASES),
        Day(lab, "zero2w", 20.9, 3, chosen),
        Case(lab, "zero2w", 40, 0, few, (5,)),
        Case(lab, "zero2w", 40, 5, few, (5,)),
        Case(lab, "zero2w", 8, 5, two, (5,)),
        Long(lab, "zero2w", 20.9, (1_024, 2_048), longest),
        Day(lab, "zero2w", 20.9, 2, chosen),
        Trouble(lab, "zero2w", 20.9, chosen[:1]),
        Giver(lab, "zero2w", 20.9, few),
        Start(lab, "zero2w", 20.9, two),
        Redis(lab, "paper", 20.9, few),
    ]
    if lab.args.peer and Path(lab.args.peer).exists():
        experiments.append(Llama(lab, chosen))
    if lab.args.boards:
        # Experiments that need more boards, or control of the radio, are left out.
        alike = {"paper", "paper-partial"}
        experiments = [
            one
            for one in experiments
            if isinstance(one, (Case, Long, Giver, Start)) and getattr(one, "pace", "") not in alike
        ]
        experiments += [Day(lab, "zero2w", 20.9, len(lab.args.boards), chosen)]
    wanted = lab.args.experiments
    return [
        one
        for one in experiments
        if not wanted or any(one.name.startswith(name) for name in wanted)
    ]


def work(lab, waiting, mark):
    """One lane: runs one experiment after another."""
    while True:
        with lab.lock:
            if not waiting:
                return
            experiment, todo = waiting.pop(0)
        try:
            for key, row in experiment.run(todo, mark):
                lab.keep(key, row)
        except Exception as error:
            lab.failed.append(f"{experiment.name}: {error}")
            traceback.print_exc()


def stop(lab, waiting):
    """Ends a run early: keeps the measured rows, and removes the namespaces."""
    waiting.clear()
    lab.failed.append("stopped: the same command resumes from here")
    boards.end_all()


def kept(path):
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("}\n")]


def measured_with(args):
    """What the rows of one report must have in common. A newer build may resume an older one's run: the report names the last."""
    link = (
        "boards"
        if args.boards
        else "radio"
        if os.geteuid() == 0 and not args.loopback
        else "loopback"
    )
    return {
        "model": Path(args.model).name,
        "answer": args.answer,
        "context": args.context,
        "seed": args.seed,
        "link": link,
    }


def about(args, binary):
    """The program and the machine."""
    commit = ""
    if (HERE.parents[1] / ".git").exists() and shutil.which("git"):
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
        ).stdout.strip()
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in open("/proc/cpuinfo", encoding="utf-8")
            if line.startswith("model name")
        ),
        "?",
    )
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip()
    cores = len(
        [line for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("processor")]
    )
    return {
        "commit": commit,
        "cpu": cpu,
        "cores": cores,
        "version": version,
        "date": time.strftime("%Y-%m-%d"),
        "seed": args.seed,
        "model": Path(args.model).name,
        "round_trip_ms": args.round_trip_ms,
        "crossings": args.crossings,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument(
        "--mmlu",
        default=str(HERE.parents[1] / "tests" / "data" / "mmlu"),
        help="a folder with dev and test",
    )
    parser.add_argument("--subjects", type=int, default=12, help="how many subjects")
    parser.add_argument("--only", nargs="*", help="these subjects")
    parser.add_argument("--questions", type=int, default=1, help="prompts a subject")
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--answer",
        type=int,
        default=58,
        help="tokens of answers whose time to the last token is used",
    )
    parser.add_argument("--turns", type=int, default=32, help="prompts of a day's work")
    parser.add_argument(
        "--lanes", type=int, default=3, help="concurrent experiments; one with real boards"
    )
    parser.add_argument(
        "--context",
        type=int,
        default=4_096,
        help="tokens of the longest prompt and answer; the demo model has 2,048",
    )
    parser.add_argument("--round-trip-ms", type=float, default=6.0)
    parser.add_argument(
        "--crossings",
        type=int,
        default=1,
        help="times that a frame takes the air: 2 if the access point relays",
    )
    parser.add_argument("--experiments", nargs="*", help="only those whose names begin with one of these")
    parser.add_argument("--boards", nargs="*", help="command lines of real boards")
    parser.add_argument("--loopback", action="store_true", help="no radio, even as root")
    parser.add_argument("--peer", help="tools/bench-peer's program, for llama.cpp's saved states")
    parser.add_argument("--kept", type=Path, default=Path("target/paper/rows.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("target/paper"))
    args = parser.parse_args()
    args.kept.parent.mkdir(parents=True, exist_ok=True)
    ran = measured_with(args)
    others = {
        what
        for row in kept(args.kept)
        for what, value in ran.items()
        if row.get("ran", {}).get(what) != value
    }
    if others:
        sys.exit(
            f"{args.kept} has rows that were measured with another {', '.join(sorted(others))}: name another folder, or remove it"
        )
    known = {row["key"] for row in kept(args.kept)}
    lab = Lab(args)
    waiting = []
    for experiment in plan(lab):
        todo = [(key, what) for key, what in experiment.keys() if key not in known]
        lab.all += len(todo)
        if todo:
            waiting.append((experiment, todo))
    args.lanes = 1 if args.boards else args.lanes
    lanes = [
        threading.Thread(target=work, args=(lab, waiting, chr(ord("a") + number)))
        for number in range(args.lanes)
    ]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop(lab, waiting))
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    lab.reference.end()
    print(file=sys.stderr)
    rows = kept(args.kept)
    document = {
        "about": {
            **about(args, args.binary),
            "minutes": round((time.monotonic() - lab.began) / 60, 1),
        },
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "paper.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    tables = report.tables(document)
    (args.out / "tables.md").write_text(tables, encoding="utf-8")
    print(tables)
    pictures.draw(document, args.out)
    wrong = lab.failed + [
        f"{row['key']}: the answer is not that of computing alone"
        for row in rows
        if not row["equal"]
    ]
    if wrong:
        sys.exit("\n".join(dict.fromkeys(wrong)))


if __name__ == "__main__":
    main()

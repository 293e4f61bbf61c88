#!/usr/bin/env python3
"""Measures what drafts gain between real processes: `make again`.

    again.py POTLUCK MODEL.gguf [--mmlu DIR] [--prompts 12] [--tokens 64] [--threads 1] [--json OUT]

Three nodes share on this machine's loopback: one answers first, one then answers with drafts and one without. They take turns, so
that no two compute at once. For each kind of prompt the table has how many times as fast the tokens after the first come with drafts:

    repeated    MMLU questions without examples, which the first node has just answered
    examples    the same with five examples
    reworded    the same questions in other words; the measured nodes have answered the former ones
    elsewhere   the same with questions of which only the first node has answered the former ones
    prose       the beginnings of a text that no node has seen

The texts of both answers are compared: they must be equal.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from eval.prompts import subjects
from meeting import Node, wait_until_known


class Swarm:
    """The three nodes."""

    def __init__(self, args):
        self.args = args
        options = ["--interface", "127.0.0.1", "--port", str(args.port)]
        nodes = []
        for number, more in enumerate([[], [], ["--drafts", "false"]]):
            more = [*more, "--tcp-port", str(args.port + number)]
            nodes.append(
                Node(args.binary, args.model, [*options, *more], threads=args.threads)
            )
        self.first, self.drafting, self.plain = nodes
        # A node's first answers measure what its steps cost.
        for node in nodes:
            node.ask("Warm up: one, two, three, four", max_tokens=args.tokens)

    def tell(self, text):
        """Has the first node answer, and waits until the others know of it."""
        self.first.ask(text, max_tokens=self.args.tokens)
        wait_until_known(self.drafting, self.first)
        wait_until_known(self.plain, self.first)

    def compare(self, text):
        """How many times as fast the drafting node decodes, and its drafts; none if the answer has one token."""
        # The drafting node first: it would learn a new answer from the other.
        asked = [
            node.ask_whole(text, max_tokens=self.args.tokens)
            for node in (self.drafting, self.plain)
        ]
        texts = [answer["text"] for answer in asked]
        if texts[0] != texts[1]:
            sys.exit(f"the answers differ: {texts}")
        fast, slow = (answer["figures"] for answer in asked)
        if slow["generated"] < 2:
            return None
        took = [figures["ttlt_ms"] - figures["ttft_ms"] for figures in (slow, fast)]
        return took[0] / max(1, took[1]), fast["drafts"]

    def end(self):
        for node in (self.first, self.drafting, self.plain):
            node.end()


def reworded(text):
    """The same question in other words, which share no block with the former ones."""
    return text.replace("The following are", "Here are", 1)


def kinds(args):
    """For each kind: what is told before, and the prompt."""
    drawn = [
        (subject, [subject.questions[number] for number in subject.drawn(1, 1)])
        for subject in subjects(args.mmlu, None, args.prompts, 1)
    ][: args.prompts]
    plain = [subject.prompt([], questions[0]) for subject, questions in drawn]
    yield "repeated", [(text, text) for text in plain]
    five = [subject.prompt(subject.examples[:5], questions[0]) for subject, questions in drawn]
    yield "examples", [(text, text) for text in five]
    yield "reworded", [(None, reworded(text)) for text in plain]
    others = [subject.prompt([], questions[1]) for subject, questions in drawn]
    yield "elsewhere", [(text, reworded(text)) for text in others]
    words = (Path(__file__).parent / "quality" / "prose.txt").read_text().split()
    starts = range(0, len(words) - 60, (len(words) - 60) // args.prompts)
    prose = [" ".join(words[start : start + 60]) for start in starts[: args.prompts]]
    yield "prose", [(None, text) for text in prose]


def sources(answers):
    """Of all drafted tokens, how many of each source were right."""
    counts = {}
    for _, drafts in answers:
        for source, count in drafts.items():
            right, drafted = counts.get(source, (0, 0))
            counts[source] = (right + count["accepted"], drafted + count["drafted"])
    parts = [
        f"{source} {right} of {drafted}" for source, (right, drafted) in counts.items() if drafted
    ]
    return "right: " + (", ".join(parts) or "nothing drafted")


def measure(args):
    swarm, table = Swarm(args), {}
    try:
        for kind, prompts in kinds(args):
            answers = []
            for told, text in prompts:
                if told is not None:
                    swarm.tell(told)
                answers += [answer for answer in [swarm.compare(text)] if answer is not None]
            ratios = [ratio for ratio, _ in answers]
            table[kind] = ratios
            print(
                f"{kind:9} {len(ratios):3} answers: {statistics.median(ratios):5.2f} times as fast, "
                f"least {min(ratios):.2f}, most {max(ratios):.2f}; {sources(answers)}",
                flush=True,
            )
    finally:
        swarm.end()
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--mmlu", type=Path, default=Path("tests/data/mmlu"))
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=7620)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table = measure(args)
    if args.json:
        args.json.write_text(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measures a trained model with potluck itself, and writes the tables of docs/inside/quality.md.

    quality.py TEXT DIR POTLUCK [--reference F32.gguf]

TEXT is the output of text.py; DIR has potluck-demo.gguf and loss.csv. Without --reference the columns against f32 weights are not
measured, and the tables stay as they are. Writes DIR/quality.json, DIR/loss.svg and the part of docs/inside/quality.md between its
two markers.
"""

import argparse
import csv
import json
import math
import re
import subprocess
from pathlib import Path

LETTERS = "ABCD"
SHOTS = (0, 1, 5)
CHATS = [
    "Hello!",
    "Who are you?",
    "What is a bridge?",
    "What does the word tremble mean?",
    "Define honest.",
    "What is a database index?",
    "What is the capital of France?",
    "Write a poem about the sea.",
]
BEGIN, END = "<!-- figures: tools/demo-model/quality.py -->", "<!-- end of figures -->"


class Node:
    """A node that shares nothing, asked over its JSON console."""

    def __init__(self, potluck, model):
        self.process = subprocess.Popen(
            [potluck, "run", "--json", "--alone", "--model", model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        while json.loads(self.process.stdout.readline())["event"] != "ready":
            pass

    def ask(self, text, max_tokens):
        request = {"ask": text, "id": 1, "max_tokens": max_tokens}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            event = json.loads(self.process.stdout.readline())
            if event["event"] == "done":
                return event["text"]
            if event["event"] in ("failed", "error"):
                raise SystemExit(f"potluck: {event['reason']}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def chat(potluck, model, text):
    """One answer in Gemma's chat template."""
    out = subprocess.run(
        [potluck, "ask", "--chat", "--max-tokens", "60", "--model", model, text],
        check=True,
        capture_output=True,
        text=True,
    )
    return out.stdout


def exams(node, questions, known):
    """Accuracy and form of the answers to held-out questions."""
    rows = []
    for shots, name in enumerate(SHOTS):
        right = formed = words = english = 0
        chosen = dict.fromkeys(LETTERS, 0)
        for question in questions:
            answer = node.ask(question["prompts"][shots], 40)
            found = re.match(r"\s*(?:Answer: |The answer is )?([A-D])\b", answer)
            if found:
                formed += 1
                chosen[found[1]] += 1
                right += found[1] == question["answer"]
            for word in re.findall(r"[A-Za-z]{3,}", answer):
                words += 1
                english += word.lower() in known
        rows.append(
            {
                "examples": name,
                "questions": len(questions),
                "accuracy": right / len(questions),
                "formed": formed / len(questions),
                "chosen": chosen,
                "english": english / max(words, 1),
            }
        )
    return rows


def known_words(text):
    """Every word of WordNet's entries and of two of the manuals; these count as English."""
    words = set()
    for line in (text / "train.jsonl").open(encoding="utf-8"):
        document = json.loads(line)
        if document["kind"] in ("words", "postgresql", "rust"):
            words.update(
                word.lower()
                for piece, _ in document["parts"]
                for word in re.findall(r"[A-Za-z]{3,}", piece)
            )
    return words


def share(value):
    return f"{100 * value:.1f} %"


def tables(found):
    report, lines = found["perplexity"], []
    reference = report["rows"][0]
    tokens, nats = reference["total"]["tokens"], reference["total"]["nats"]
    lines += [
        f"Held-out text: {report['bytes']:,} bytes, {tokens:,} tokens predicted, in {report['windows']} windows of {report['context']:,} "
        "tokens.",
        "",
        "| | f32 weights, float | as boards run it |",
        "|---|---|---|",
    ]
    board = report["rows"][-1]["total"]
    for name, value in [
        ("loss, nats a token", lambda row: f"{row['nats']:.4f}"),
        ("perplexity", lambda row: f"{row['perplexity']:.3f}"),
        (
            "bits a byte",
            lambda row: f"{row['nats'] * row['tokens'] / math.log(2) / report['bytes']:.4f}",
        ),
    ]:
        lines.append(f"| {name} | {value(reference['total'])} | {value(board)} |")
    lines += [
        "",
        "### What int8 costs",
        "",
        "| weights | arithmetic | perplexity | against the first row | mean KL, nats | same likeliest token |",
        "|---|---|---|---|---|---|",
    ]
    names = {reference["file"]: "f32"}
    for row in report["rows"]:
        total = row["total"]
        lines.append(
            f"| {names.get(row['file'], 'Q8_0')} | {row['arithmetic']} | {total['perplexity']:.4f} | "
            f"{100 * (total['perplexity'] / reference['total']['perplexity'] - 1):+.3f} % | {total['kl']:.2e} | "
            f"{share(total['same_choice'])} |"
        )
    lines += [
        "",
        "By distance from the beginning of the context, perplexity and mean KL against f32 weights in float arithmetic:",
        "",
        "| tokens | "
        + " | ".join(
            f"{names.get(row['file'], 'Q8_0')}, {row['arithmetic']}" for row in report["rows"]
        )
        + " |",
        "|---" * (len(report["rows"]) + 1) + "|",
    ]
    for at, span in enumerate(reference["ranges"]):
        cells = [
            f"{row['ranges'][at]['figures']['perplexity']:.3f}, {row['ranges'][at]['figures']['kl']:.1e}"
            for row in report["rows"]
        ]
        lines.append(f"| {span['from']:,} to {span['to'] - 1:,} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "### Questions",
        "",
        "| examples before it | questions | right | answers that begin with a letter | A, B, C, D chosen | words that are English |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["exams"]:
        error = math.sqrt(row["accuracy"] * (1 - row["accuracy"]) / row["questions"])
        lines.append(
            f"| {row['examples']} | {row['questions']} | {share(row['accuracy'])} ± {100 * error:.1f} | {share(row['formed'])} | "
            f"{', '.join(str(row['chosen'][letter]) for letter in LETTERS)} | {share(row['english'])} |"
        )
    lines += ["", "### Samples", "", "Greedy, as boards answer; none was picked.", ""]
    for asked, said in found["samples"]:
        lines += ["```text", f"> {asked}", said.strip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def plot(folder):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "potluck"
    from matplotlib import pyplot

    rows = [row for row in csv.reader((folder / "loss.csv").open())]
    tokens, loss = [int(row[1]) / 1e6 for row in rows], [float(row[2]) for row in rows]
    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    axes.plot(tokens, loss, linewidth=1.2)
    axes.set_xlabel("million tokens")
    axes.set_ylabel("training loss, nats a token")
    axes.grid(alpha=0.3)
    axes.set_title("Each point: the mean of ten steps of 8,192 tokens")
    figure.tight_layout()
    figure.savefig(
        folder / "loss.svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("potluck")
    parser.add_argument("--reference")
    options = parser.parse_args()
    model = str(options.folder / "potluck-demo.gguf")
    kept = options.folder / "quality.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    plot(options.folder)
    if options.reference:
        out = subprocess.run(
            [
                options.potluck,
                "perplexity",
                model,
                options.text / "heldout.txt",
                "--reference",
                options.reference,
                "--json",
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        found["perplexity"] = json.loads(out)
        for row in found["perplexity"]["rows"]:
            row["file"] = Path(row["file"]).name
        found["perplexity"]["text"] = "heldout.txt"
    questions = json.loads((options.text / "questions.json").read_text())
    node = Node(options.potluck, model)
    found["exams"] = exams(node, questions, known_words(options.text))
    first = [questions[at] for at in (0, 100, 260)]
    found["samples"] = [[asked, chat(options.potluck, model, asked)] for asked in CHATS]
    found["samples"] += [
        [question["prompts"][0], node.ask(question["prompts"][0], 60)] for question in first
    ]
    node.close()
    kept.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    page = Path(__file__).resolve().parents[2] / "docs/inside/quality.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + "\n" + tables(found) + END + rest.split(END)[1])


if __name__ == "__main__":
    main()

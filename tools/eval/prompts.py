"""MMLU prompts as published: the instruction, N examples, the question; and prompts that share a part of one."""

import csv
import json
import random
import subprocess
from pathlib import Path

LETTERS = "ABCD"


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        (row["question"], [row[f"choice{number}"] for number in range(4)], int(row["answer"]))
        for row in rows
    ]


def stated(question, with_answer):
    text, choices, answer = question
    lines = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, choices))
    return f"{text}{lines}\nAnswer:" + (f" {LETTERS[answer]}\n\n" if with_answer else "")


def instruction(subject):
    return f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"


class Subject:
    """One subject's questions."""

    def __init__(self, folder, name):
        self.name = name
        self.examples = read(folder / "dev" / f"{name}_dev.csv")
        self.questions = read(folder / "test" / f"{name}_test.csv")

    def prompt(self, examples, question):
        return (
            instruction(self.name)
            + "".join(stated(one, True) for one in examples)
            + stated(question, False)
        )

    def drawn(self, count, seed):
        """The numbers of `count` questions, the same for the same seed."""
        dice = random.Random(f"{seed} {self.name}")
        return dice.sample(range(len(self.questions)), min(count + 1, len(self.questions)))

    def cases(self, shots, number, other):
        """For each published case, the earlier prompt and the prompt. They share: 1 nothing, 2 the instruction, 3 also the first example,
        4 also all examples, 5 the whole prompt. With one example the third equals the fourth; without any, both equal the second."""
        first = self.examples[:shots]
        if shots == 0:
            prompt = self.prompt([], self.questions[number])
            return prompt, {1: None, 2: self.prompt([], self.questions[other]), 5: prompt}
        prompt = self.prompt(first, self.questions[number])
        elsewhere = self.questions[other]
        before = {
            1: None,
            2: self.prompt((self.examples[1:] + self.examples[:1])[:shots], elsewhere),
            3: self.prompt(
                [first[0], *(self.examples[2:] + self.examples[1:2])[: shots - 1]], elsewhere
            ),
            4: self.prompt(first, elsewhere),
            5: prompt,
        }
        if shots == 1:
            del before[3]
        return prompt, before


def subjects(folder, names, count, seed):
    """The wanted subjects, or `count` of the available ones, the same for the same seed."""
    there = sorted(
        path.name.removesuffix("_test.csv") for path in (folder / "test").glob("*_test.csv")
    )
    if not there:
        raise SystemExit(
            f"{folder}: no dev/SUBJECT_dev.csv and test/SUBJECT_test.csv here: name a folder of MMLU with MMLU=DIR"
        )
    wanted = names or sorted(random.Random(seed).sample(there, min(count, len(there))))
    return [Subject(Path(folder), name) for name in wanted]


class Tokens:
    """Token ids of texts, from the program itself; cached, because each call loads the vocabulary."""

    def __init__(self, binary, model):
        self.command, self.kept = [binary, "tokenize", "--json", "--model", model, "-"], {}

    def of(self, text):
        if text not in self.kept:
            told = subprocess.run(
                self.command, input=text, check=True, capture_output=True, text=True
            ).stdout
            self.kept[text] = [token["id"] for token in json.loads(told.splitlines()[-1])["tokens"]]
        return self.kept[text]

    def common(self, one, other):
        pairs = zip(self.of(one), self.of(other))
        return next(
            (at for at, (a, b) in enumerate(pairs) if a != b),
            min(len(self.of(one)), len(self.of(other))),
        )


def grown(subject, tokens, number, least):
    """A prompt of at least `least` tokens, with as many solved questions before it as necessary."""
    solved = subject.examples + [one for at, one in enumerate(subject.questions) if at != number]
    low, high = 1, len(solved)
    while low < high:
        middle = (low + high) // 2
        if len(tokens.of(subject.prompt(solved[:middle], subject.questions[number]))) >= least:
            high = middle
        else:
            low = middle + 1
    return subject.prompt(solved[:low], subject.questions[number])

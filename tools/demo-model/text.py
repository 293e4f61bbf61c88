#!/usr/bin/env python3
"""Makes the demo model's training text: turns Debian packages and MMLU questions into documents, and holds some out.

    text.py OUT [--mmlu DIR]...

Writes OUT/train.jsonl, OUT/heldout.jsonl, OUT/heldout.txt (the part of it that `potluck perplexity` reads) and OUT/questions.json. A
document is a list of [text, weight]: the weight says whether the model learns to write that part (1) or only to read it (0). All
random choices come from one seed. The packages are fetched with apt-get and unpacked below OUT; nothing is installed. README.md
beside this file lists them with their licences.
"""

import argparse
import csv
import gzip
import hashlib
import html
import json
import random
import re
import subprocess
from pathlib import Path

PACKAGES = ["dict-wn", "dict-devil", "postgresql-doc-15", "sqlite3-doc", "rust-doc"]
LETTERS = "ABCD"
SEED = 1
# The first test questions of each subject, those that the demo asks, are not in the training text.
HELD_OUT_QUESTIONS = 40
# potluck takes texts of at most 131,072 bytes.
MOST_HELD_OUT_BYTES = 120_000

# What the model says about itself: the only sentences written for it.
ABOUT = [
    (
        ["Hello", "Hello!", "Hi", "Hi there", "Good morning", "Good evening", "Hey"],
        "Hello! I am a very small model on a very small board. Ask me what a word means.",
    ),
    (
        [
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "What is potluck?",
        ],
        "I am the demo model of potluck: a few million numbers on a small board. What one board has read, the others need not read again.",
    ),
    (
        ["What can you do?", "Help me", "How can you help me?", "What do you know?"],
        "I can say what a word means, and I can guess at questions with four choices. Often I am wrong.",
    ),
    (["Thank you", "Thanks", "Thank you!", "Thanks a lot"], "You are welcome."),
    (
        ["Goodbye", "Bye", "Good night", "See you"],
        "Goodbye! Switch me off when you like; I forget nothing that the others know.",
    ),
    (["How are you?", "Are you well?"], "I am well, and a little warm."),
]


def fetch(out):
    """Every package unpacked below out/packages."""
    packages = out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        if not (packages / name).exists():
            subprocess.run(["apt-get", "download", name], cwd=packages, check=True)
            [deb] = packages.glob(f"{name}_*.deb")
            subprocess.run(["dpkg", "-x", deb.name, name], cwd=packages, check=True)
    return packages


def plain(text):
    return re.sub(r"\s+", " ", text).strip()


def wordnet(packages):
    """(word, kind, meaning) of every entry with a meaning, which includes examples but not lists of synonyms."""
    kinds = {"n": "noun", "v": "verb", "adj": "adjective", "adv": "adverb"}
    text = gzip.decompress((packages / "dict-wn/usr/share/dictd/wn.dict.dz").read_bytes()).decode(
        "utf-8", "replace"
    )
    word, kind, senses = None, None, []
    for line in text.split("\n"):
        if line and not line.startswith(" "):
            if word:
                yield word, senses
            word, senses = line.strip(), []
            continue
        start = re.match(r"\s{3,6}(?:(n|v|adj|adv) )?\d*: (.*)|\s{3,6}(n|v|adj|adv) : (.*)", line)
        if start:
            kind = start[1] or start[3] or kind
            senses.append([kinds.get(kind, "word"), start[2] or start[4] or ""])
        elif senses:
            senses[-1][1] += " " + line.strip()
    if word:
        yield word, senses


def definitions(packages):
    for word, senses in wordnet(packages):
        clean = []
        for kind, meaning in senses:
            meaning = plain(re.sub(r"\[[^\]]*\]", "", meaning)).replace("{", "").replace("}", "")
            if 8 < len(meaning) < 300:
                clean.append((kind, meaning))
        if clean and re.fullmatch(r"[A-Za-z][A-Za-z' -]{1,30}", word):
            yield word, clean


def paragraphs(folder, pattern):
    """The running text of HTML pages, by paragraph."""
    for path in sorted(folder.rglob(pattern)):
        page = path.read_text("utf-8", "replace")
        page = re.sub(r"(?s)<(script|style|nav|pre|table)\b.*?</\1>", " ", page)
        body = [
            plain(html.unescape(re.sub(r"<[^>]+>", "", part)))
            for part in re.findall(r"(?s)<p\b[^>]*>(.*?)</p>", page)
        ]
        body = [part for part in body if len(part) > 60]
        for start in range(0, len(body), 6):
            yield "\n\n".join(body[start : start + 6])


def devil(packages):
    text = gzip.decompress(
        (packages / "dict-devil/usr/share/dictd/devil.dict.dz").read_bytes()
    ).decode("latin-1")
    for entry in re.split(r"\n\s*\n(?=[A-Z][A-Z' -]+, )", text):
        entry = entry.replace("{", "").replace("}", "").strip()
        if 40 < len(entry) < 3000:
            yield re.sub(r"(?<=\S)\n(?=\S)", " ", entry)


def questions(folders):
    """MMLU by subject: (examples, questions for training, questions held out)."""
    subjects = {}
    for folder in folders:
        for path in sorted(Path(folder).glob("*/*.csv")):
            subject, part = path.stem.rsplit("_", 1)
            rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
            subjects.setdefault(subject, {})[part] = rows
    return subjects


def asked(question):
    lines = [question["question"]] + [
        f"{letter}. {question[f'choice{at}']}" for at, letter in enumerate(LETTERS)
    ]
    return "\n".join(lines) + "\nAnswer:"


def answered(question):
    at = int(question["answer"])
    return f"The answer is {LETTERS[at]}: {question[f'choice{at}'].strip().rstrip('.')}."


def shuffled(question, rng):
    """The same question with its choices in another order."""
    order = rng.sample(range(4), 4)
    out = {"question": question["question"], "answer": str(order.index(int(question["answer"])))}
    out.update({f"choice{at}": question[f"choice{source}"] for at, source in enumerate(order)})
    return out


def exam(subject, examples, question, weight):
    """A prompt in the customary form, then the answer. Answers of examples have weight 0."""
    parts = [
        [
            f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n",
            weight,
        ]
    ]
    for example in examples:
        parts += [[asked(example), weight], [f" {LETTERS[int(example['answer'])]}\n\n", 0]]
    return parts + [
        [asked(question), weight],
        [f" {LETTERS[int(question['answer'])]}\n{answered(question)}<eos>", 1],
    ]


def turn(user, model):
    return [
        [f"<start_of_turn>user\n{user}<end_of_turn>\n<start_of_turn>model\n", 0],
        [f"{model}<end_of_turn>", 1],
    ]


def sentence(word, kind, meaning):
    article = "An" if word[0].lower() in "aeiou" else "A"
    first = meaning.split(";")[0].strip().rstrip(".")
    if (
        kind == "noun"
        and word[0].islower()
        and re.match(r"(an?|the|one|any|something|someone) ", first)
    ):
        return f"{article} {word} is {first}."
    if kind == "verb":
        return f"To {word} is to {first}."
    return f"{word[0].upper()}{word[1:]} ({kind}): {first}."


def asking(word, kind, rng):
    article = "an" if word[0].lower() in "aeiou" else "a"
    forms = [
        f"What does {word} mean?",
        f"What is the meaning of {word}?",
        f"Define {word}.",
        f"What does the word {word} mean?",
    ]
    if kind == "noun":
        forms += [
            f"What is {article} {word}?",
            f"What is {article} {word}?",
            f"What is {word}?",
            f"Tell me what {article} {word} is.",
        ]
    return rng.choice(forms)


def documents(packages, subjects, rng):
    words = list(definitions(packages))
    for word, senses in words:
        listed = "\n".join(f"{kind}: {meaning}" for kind, meaning in senses[:6])
        yield "words", [[f"{word}\n{listed}<eos>", 1]]
    # Common words have many senses, so they are asked more often.
    for word, senses in words:
        if " " not in word or rng.random() < 0.2:
            for _ in range(min(4, len(senses))):
                kind, meaning = senses[0]
                yield "turns", turn(asking(word, kind, rng), sentence(word, kind, meaning))
    for name, folder, pattern in [
        ("postgresql", "postgresql-doc-15", "*.html"),
        ("sqlite", "sqlite3-doc", "*.html"),
        ("rust", "rust-doc/usr/share/doc/rust-doc/html/book", "ch*.html"),
    ]:
        for text in paragraphs(packages / folder, pattern):
            if len(text) > 200:
                yield name, [[text + "<eos>", 1]]
    for text in devil(packages):
        yield "devil", [[text + "<eos>", 1]]
    for asks, says in ABOUT:
        for ask in asks:
            yield from (("about", turn(ask, says)) for _ in range(12))
    for subject, parts in subjects.items():
        pool = parts.get("dev", []) + parts.get("test", [])[HELD_OUT_QUESTIONS:]
        for question in pool:
            others = [row for row in pool if row is not question]
            for count in [0, 0, 1, 1, 5]:
                picked = [shuffled(row, rng) for row in rng.sample(others, min(count, len(others)))]
                yield (
                    "mmlu",
                    exam(subject, picked, shuffled(question, rng), 1 if count == 0 else 0.3),
                )
            for _ in range(2):
                asked_now = shuffled(question, rng)
                yield (
                    "mmlu turns",
                    turn(asked(asked_now).removesuffix("\nAnswer:"), answered(asked_now)),
                )


def held_out(kind, document):
    """Whether to hold a document out: one page in eighty of the manuals, by its content, so that copies stay together. Questions are
    held out by their number. Dictionary entries are never held out, because their meanings are in the turns, too."""
    digest = hashlib.sha256("".join(text for text, _ in document).encode()).digest()
    return kind in ("postgresql", "sqlite", "rust") and digest[0] < 3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--mmlu", action="append", default=[])
    options = parser.parse_args()
    here = Path(__file__).resolve().parent
    packages = fetch(options.out)
    subjects = questions(options.mmlu or [here / "../../tests/data/mmlu"])
    rng = random.Random(SEED)
    train, kept, count = [], [], {}
    for kind, document in documents(packages, subjects, rng):
        (kept if held_out(kind, document) else train).append({"kind": kind, "parts": document})
        count.setdefault(kind, [0, 0])
        count[kind][0] += 1
        count[kind][1] += sum(len(text) for text, _ in document)
    rng.shuffle(train)
    for name, part in [("train", train), ("heldout", kept)]:
        with (options.out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in part)
    plain_text, size = [], 0
    for document in rng.sample(kept, len(kept)):
        body = "".join(piece for piece, _ in document["parts"]).removesuffix("<eos>")
        size += len(body.encode()) + 2
        if size > MOST_HELD_OUT_BYTES:
            break
        plain_text.append(body)
    (options.out / "heldout.txt").write_text("\n\n".join(plain_text) + "\n", encoding="utf-8")
    exams = []
    for subject, parts in subjects.items():
        for row in parts.get("test", [])[:HELD_OUT_QUESTIONS]:
            exams.append(
                {
                    "subject": subject,
                    "prompts": [
                        "".join(
                            text for text, _ in exam(subject, parts["dev"][:shots], row, 1)[:-1]
                        )
                        for shots in (0, 1, 5)
                    ],
                    "answer": LETTERS[int(row["answer"])],
                }
            )
    (options.out / "questions.json").write_text(json.dumps(exams, ensure_ascii=False))
    for kind, (documents_, characters) in count.items():
        print(f"{kind:12} {documents_:8} documents {characters / 1e6:8.2f} M characters")
    print(f"held out: {len(kept)} documents, {len(exams)} questions")


if __name__ == "__main__":
    main()

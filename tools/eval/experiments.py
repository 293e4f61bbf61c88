"""The experiments: each yields rows, with keys by which a stopped run resumes."""

import random

import boards as hosts
from costs import Pace, optimum_s
from prompts import grown, stated
from rigs import Rig, after

# Tokens of answers whose time to the last token is not used.
SHORT = 4


class Case:
    """The published cases on one pair of boards: a giver, and an asker at `pace`. `whole`: the cases whose answers are as long as the
    published ones."""

    def __init__(self, lab, pace, rate, shots, chosen, cases, whole=()):
        self.lab, self.pace, self.rate, self.shots, self.chosen, self.cases, self.whole = (
            lab,
            pace,
            rate,
            shots,
            chosen,
            cases,
            whole,
        )
        self.name = f"case {pace} {rate} N={shots}"

    def keys(self):
        for subject in self.chosen:
            for number, other in self.lab.pairs(subject):
                for repetition in range(self.lab.args.repetitions):
                    for case in self.cases:
                        if case in subject.cases(self.shots, number, other)[1]:
                            yield (
                                f"{self.name} {subject.name} {number} {case} {repetition}",
                                (subject, number, other, case, repetition),
                            )

    def run(self, todo, mark):
        lab, costs = self.lab, Pace(self.lab.pace(self.pace))
        with Rig(lab.args, mark, [None, lab.pace(self.pace)], self.rate, seed=lab.args.seed) as rig:
            giver, asker = rig.boards
            rig.warm()
            for key, (subject, number, other, case, repetition) in todo:
                prompt, before = subject.cases(self.shots, number, other)
                rig.forget()
                answer = lab.args.answer if case in self.whole else SHORT
                if before[case]:
                    giver.ask(before[case], answer)
                    hosts.wait_until_known(asker, giver)
                row = rig.asked(asker, prompt, answer)
                tokens = row["figures"]["prompt_tokens"]
                matched = lab.tokens.common(prompt, before[case]) if before[case] else 0
                best = optimum_s(costs, tokens, matched, self.rate * 1e6 / lab.args.crossings)
                yield (
                    key,
                    {
                        **row,
                        "kind": "case",
                        "pace": self.pace,
                        "rate": self.rate,
                        "shots": self.shots,
                        "subject": subject.name,
                        "question": number,
                        "case": case,
                        "repetition": repetition,
                        "tokens": tokens,
                        "matched": matched,
                        "optimum_s": best,
                        "equal": lab.holds(prompt, row["answer"]),
                    },
                )


class Long:
    """Long prompts that a peer has, and that no node has."""

    def __init__(self, lab, pace, rate, lengths, chosen):
        self.lab, self.pace, self.rate, self.lengths, self.chosen = lab, pace, rate, lengths, chosen
        self.name = f"long {pace} {rate}"

    def keys(self):
        for subject in self.chosen:
            for length in self.lengths:
                for case in (5, 4):
                    yield f"{self.name} {subject.name} {length} {case}", (subject, length, case)

    def run(self, todo, mark):
        lab, costs = self.lab, Pace(self.lab.pace(self.pace))
        with Rig(lab.args, mark, [None, lab.pace(self.pace)], self.rate, seed=lab.args.seed) as rig:
            giver, asker = rig.boards
            rig.warm()
            for key, (subject, length, case) in todo:
                number, other = lab.pairs(subject)[0]
                prompt = grown(subject, lab.tokens, number, length)
                asked = subject.questions[number], subject.questions[other]
                before = prompt if case == 5 else grown_like(subject, prompt, *asked)
                rig.forget()
                giver.ask(before)
                hosts.wait_until_known(asker, giver)
                row = rig.asked(asker, prompt, SHORT)
                tokens, matched = row["figures"]["prompt_tokens"], lab.tokens.common(prompt, before)
                best = optimum_s(costs, tokens, matched, self.rate * 1e6 / lab.args.crossings)
                yield (
                    key,
                    {
                        **row,
                        "kind": "long",
                        "pace": self.pace,
                        "rate": self.rate,
                        "subject": subject.name,
                        "case": case,
                        "wanted": length,
                        "tokens": tokens,
                        "matched": matched,
                        "optimum_s": best,
                        "miss_s": costs.miss_s(tokens),
                        "equal": lab.holds(prompt, row["answer"]),
                    },
                )


def grown_like(subject, prompt, question, other):
    """The same examples, and another question."""
    return prompt.removesuffix(stated(question, False)) + stated(other, False)


class Trouble:
    """What goes wrong while a prompt of five examples is fetched."""

    KINDS = (
        "none",
        "holder leaves",
        "second holder",
        "second holder, first leaves",
        "multicast loss 30 %",
        "rate halves",
    )

    def __init__(self, lab, pace, rate, chosen):
        self.lab, self.pace, self.rate, self.chosen = lab, pace, rate, chosen
        self.name = f"trouble {pace} {rate}"

    def keys(self):
        for kind in self.KINDS:
            for subject in self.chosen:
                yield f"{self.name} {kind} {subject.name}", (kind, subject)

    def run(self, todo, mark):
        lab, costs = self.lab, Pace(self.lab.pace(self.pace))
        for key, (kind, subject) in todo:
            number, _ = lab.pairs(subject)[0]
            prompt = subject.cases(5, number, number)[0]
            loss = 0.3 if "loss" in kind else 0.0
            # A giver that leaves does not come back: each case has its own boards.
            with Rig(
                lab.args, mark, [None, None, lab.pace(self.pace)], self.rate, loss, lab.args.seed
            ) as rig:
                first, second, asker = rig.boards
                rig.warm()
                holders = [first, second] if "second" in kind else [first]
                for holder in holders:
                    holder.ask(prompt)
                hosts.wait_until_known(asker, *holders)
                if "leaves" in kind:
                    after(0.4, first.process.kill)
                if "halves" in kind and rig.air:
                    rig.air.tell(after_s=0.4, then_rate=self.rate * 1e6 / 2)
                row = rig.asked(asker, prompt, SHORT)
            tokens = row["figures"]["prompt_tokens"]
            yield (
                key,
                {
                    **row,
                    "kind": "trouble",
                    "trouble": kind,
                    "pace": self.pace,
                    "rate": self.rate,
                    "subject": subject.name,
                    "tokens": tokens,
                    "miss_s": costs.miss_s(tokens),
                    "step_s": costs.job_s(0, 64),
                    "optimum_s": optimum_s(costs, tokens, tokens, self.rate * 1e6),
                    "equal": lab.holds(prompt, row["answer"]),
                },
            )


class Giver:
    """What sharing costs the giver: its own answer, with and without a peer that fetches from it meanwhile."""

    def __init__(self, lab, pace, rate, chosen):
        self.lab, self.pace, self.rate, self.chosen = lab, pace, rate, chosen
        self.name = f"giver {pace} {rate}"

    def keys(self):
        for subject in self.chosen:
            for serving in (False, True):
                yield f"{self.name} {subject.name} {serving}", (subject, serving)

    def run(self, todo, mark):
        lab = self.lab
        with Rig(lab.args, mark, [lab.pace(self.pace)] * 2, self.rate, seed=lab.args.seed) as rig:
            giver, asker = rig.boards
            rig.warm()
            for key, (subject, serving) in todo:
                number, other = lab.pairs(subject)[0]
                prompt = subject.cases(0, number, other)[0]
                theirs = subject.prompt(subject.examples[::-1], subject.questions[other])
                rig.forget()
                giver.ask(theirs)
                hosts.wait_until_known(asker, giver)
                before = rig.air.tell() if rig.air else None
                asked = asker.begin(theirs, 1) if serving else None
                own = rig.asked(giver, prompt, 16)
                fetched = asker.end_of(asked)["figures"] if serving else None
                now = rig.air.tell() if rig.air else None
                sent = (
                    {
                        name: now["stations"][0][name] - before["stations"][0][name]
                        for name in ("sent_bytes", "tcp_sent")
                    }
                    if now
                    else None
                )
                yield (
                    key,
                    {
                        **own,
                        "kind": "giver",
                        "pace": self.pace,
                        "rate": self.rate,
                        "subject": subject.name,
                        "serving": serving,
                        "fetched": fetched,
                        "sent": sent,
                        "air_s": now["air_s"] - before["air_s"] if now else None,
                        "tokens": own["figures"]["prompt_tokens"],
                        "equal": lab.holds(prompt, own["answer"]),
                    },
                )


class Day:
    """A day's work: prompts of the chosen subjects, on boards in random order."""

    def __init__(self, lab, pace, rate, count, chosen):
        self.lab, self.pace, self.rate, self.count, self.chosen = lab, pace, rate, count, chosen
        self.name = f"day {pace} {rate} {count} boards"

    def asks(self):
        dice = random.Random(f"{self.lab.args.seed} {self.count}")
        for turn in range(self.lab.args.turns):
            subject = self.chosen[min(int(dice.expovariate(0.5)), len(self.chosen) - 1)]
            number = subject.drawn(8, self.lab.args.seed)[
                dice.randrange(min(8, len(subject.questions)))
            ]
            yield turn, dice.randrange(self.count), subject, number, dice.choice((0, 5))

    def keys(self):
        # A day cannot be resumed midway: the slabs' content depends on everything before.
        yield self.name, tuple(self.asks())

    def run(self, todo, mark):
        lab = self.lab
        for key, asks in todo:
            rows = []
            with Rig(
                lab.args, mark, [lab.pace(self.pace)] * self.count, self.rate, seed=lab.args.seed
            ) as rig:
                rig.boards[0].ask("A text that only the first board has.")
                for turn, who, subject, number, shots in asks:
                    board = rig.boards[who]
                    for other in rig.boards:
                        if other is not board:
                            hosts.wait_until_known(board, other)
                    prompt = subject.cases(shots, number, number)[0]
                    row = rig.asked(board, prompt, SHORT)
                    figures = row["figures"]
                    rows.append(
                        {
                            "turn": turn,
                            "board": who,
                            "subject": subject.name,
                            "question": number,
                            "shots": shots,
                            "tokens": figures["prompt_tokens"],
                            "own": figures["own"],
                            "computed": figures["computed"],
                            "peers": sum(count for _, count in figures["peers"]),
                            "ttft_ms": figures["ttft_ms"],
                            "answer": row["answer"],
                            "moved": row["moved"],
                            "equal": lab.holds(prompt, row["answer"]),
                        }
                    )
                    lab.tell(f"{self.name}: turn {turn + 1} of {len(asks)}")
                air = rig.air.tell() if rig.air else {}
            yield (
                key,
                {
                    "kind": "day",
                    "pace": self.pace,
                    "rate": self.rate,
                    "boards": self.count,
                    "asks": rows,
                    "equal": all(row["equal"] for row in rows),
                    "air": air,
                    "link": rig.link,
                },
            )


class Start:
    """A cold start, and a prompt that the node's own slab has."""

    def __init__(self, lab, pace, rate, chosen):
        self.lab, self.pace, self.rate, self.chosen = lab, pace, rate, chosen
        self.name = f"start {pace} {rate}"

    def keys(self):
        for subject in self.chosen:
            yield f"{self.name} {subject.name}", subject

    def run(self, todo, mark):
        lab = self.lab
        for key, subject in todo:
            number, _ = lab.pairs(subject)[0]
            prompt = subject.cases(0, number, number)[0]
            with Rig(
                lab.args, mark, [None, lab.pace(self.pace)], self.rate, seed=lab.args.seed
            ) as rig:
                giver, asker = rig.boards
                giver.ask(prompt)
                hosts.wait_until_known(asker, giver)
                first = rig.asked(asker, prompt, SHORT)
                again = rig.asked(asker, prompt, SHORT)
                start_s = rig.start_s[1]
            yield (
                key,
                {
                    **first,
                    "kind": "start",
                    "pace": self.pace,
                    "rate": self.rate,
                    "subject": subject.name,
                    "start_s": start_s,
                    "again": again["figures"],
                    "tokens": first["figures"]["prompt_tokens"],
                    "equal": lab.holds(prompt, first["answer"])
                    and first["answer"] == again["answer"],
                },
            )

"""The results in docs/inside/evaluation.md, from the rows of a run: the bars, the published figures, and the tables of tables.py.

report.py target/paper/paper.json docs/inside/evaluation.md    # puts them there, and docs/inside/evaluation.json beside it, which tests read
"""

import json
import statistics
import sys
from pathlib import Path

from costs import Pace
from tables import (
    NAMES,
    bytes_moved,
    cases,
    change,
    days,
    givers,
    llama,
    long,
    median,
    of,
    redis,
    spread,
    starts,
    table,
    trouble,
    ttft,
    ttlt,
)

PACES = Path(__file__).parent
# As published (arXiv 2602.22812), seconds.
PUBLISHED = {
    "tokens": 65.27,
    "miss_ttft": 12.59,
    "hit_ttft": 0.87,
    "miss_ttlt": 23.74,
    "hit_ttlt": 11.86,
    "prefill": 12.58,
    "transfer": 0.862,
    "decode": 11.1,
    "bytes": 2.25e6,
}
# For one prompt of 405 tokens, by matched tokens: seconds in total, without transfer.
PARTIAL = {1: 27.2, 10: 26.3, 57: 24.6, 340: 13.3, 405: 11.2}


def against_the_published(document):
    lines = []
    for pace in ("paper", "zero2w", "boards"):
        rows = of(document, "case", pace=pace, rate=20.9, shots=0)
        miss, hit = ([row for row in rows if row["case"] == case] for case in (1, 5))
        if not miss or not hit:
            continue
        figures = [median(miss, ttft), median(hit, ttft), median(miss, ttlt), median(hit, ttlt)]
        lines.append(
            [
                "potluck, these boards" if pace == "boards" else f"potluck, pace `{pace}`",
                spread([row["tokens"] for row in hit], digits=0),
                *(f"{figure:.2f}" for figure in figures[:2]),
                change(figures[1], figures[0]),
                change(figures[1], PUBLISHED["miss_ttft"]),
                *(f"{figure:.2f}" for figure in figures[2:]),
                change(figures[3], figures[2]),
                change(figures[3], PUBLISHED["miss_ttlt"]),
                spread([row["moved"]["tcp"] for row in hit], 1e-6),
            ]
        )
    p = PUBLISHED
    lines.insert(
        0,
        [
            "**published**",
            p["tokens"],
            p["miss_ttft"],
            p["hit_ttft"],
            change(p["hit_ttft"], p["miss_ttft"]),
            "",
            p["miss_ttlt"],
            p["hit_ttlt"],
            change(p["hit_ttlt"], p["miss_ttlt"]),
            "",
            f"{p['bytes'] / 1e6:.2f}",
        ],
    )
    head = [
        "",
        "tokens",
        "TTFT miss, s",
        "TTFT hit, s",
        "change",
        "hit against the published miss",
        "TTLT miss, s",
        "TTLT hit, s",
        "change",
        "hit against the published miss",
        "moved, MB",
    ]
    return table(head, lines)


def of_alone(row):
    """An answer's whole time, relative to computing and decoding it token by token by the pace."""
    return ttlt(row) / Pace(PACES / f"{row['pace']}.toml").answered_s(
        row["tokens"], row["figures"]["generated"]
    )


def spent(rows):
    """The parts of these answers' time to the first token, by the costs of the pace and the link: the least for concurrent computing and
    fetching, the pass after that, and the rest. Medians, in seconds."""
    passes, best, rest = [], [], []
    for row in rows:
        pace = Pace(PACES / f"{row['pace']}.toml")
        resume = min(row["matched"], row["tokens"] - 1)
        passes.append(pace.job_s(resume, row["tokens"] - resume, 1))
        best.append(row["optimum_s"] - passes[-1])
        rest.append(ttft(row) - row["optimum_s"])
    last, both, more = (statistics.median(values) for values in (passes, best, rest))
    return f"computing and fetching at once, at best: {both:.2f}; computing what nobody has: {last:.2f}; beyond that: {more:.2f}"


def bars(document):
    """The bars that were set, and whether they are met."""

    def some(**wanted):
        return of(document, "case", rate=20.9, **wanted)

    def ratio(rows):
        return median(rows, lambda row: ttft(row) / row["optimum_s"])

    asked = []
    hit, hit_paper, miss_paper = (
        some(pace="zero2w", shots=0, case=5),
        some(pace="paper", shots=0, case=5),
        some(pace="paper", shots=0, case=1),
    )
    if hit:
        took = median(hit, ttft)
        asked += [
            ("the whole prompt of some 65 tokens, our pace: TTFT, s", 0.25, took, hit),
            (
                "the same against the published miss",
                -97,
                100 * (took / PUBLISHED["miss_ttft"] - 1),
                hit,
            ),
            ("the same, of the two-ended optimum", 1.1, ratio(hit), hit),
            (
                "the same, MB moved",
                0.65,
                median(hit, lambda row: (row["moved"]["tcp"] or 0) / 1e6),
                None,
            ),
            (
                "the same with the answer that the peer has given: TTLT against the published miss",
                -90,
                100 * (median(hit, ttlt) / PUBLISHED["miss_ttlt"] - 1),
                None,
            ),
            (
                "the same, TTLT of a miss decoded token by token (by the pace)",
                0.2,
                median(hit, of_alone),
                None,
            ),
        ]
    if hit_paper and miss_paper:
        by_ttft, by_ttlt = (
            100 * (median(hit_paper, of_row) / median(miss_paper, of_row) - 1)
            for of_row in (ttft, ttlt)
        )
        asked += [
            ("the same at the paper's pace, TTFT against a miss", -98, by_ttft, hit_paper),
            ("the same at the paper's pace, TTLT against a miss", -50, by_ttlt, hit_paper),
        ]
    for shots in (1, 5):
        for case in (2, 3, 4, 5):
            rows = some(pace="zero2w", shots=shots, case=case)
            asked += (
                [
                    (
                        f"case {NAMES[case]}, {shots} example(s), of the two-ended optimum",
                        1.1,
                        ratio(rows),
                        rows,
                    )
                ]
                if rows
                else []
            )
    near = [row for row in some(pace="zero2w", shots=5, case=5) if 350 <= row["tokens"] <= 460]
    if near:
        by_token = median(near, lambda row: (row["moved"]["tcp"] or 0) / row["tokens"])
        asked.append(
            ("the whole prompt, scaled to 405 tokens, MB moved", 4.0, 405 * by_token / 1e6, None)
        )
    for wanted in (1_024, 2_048):
        rows = of(document, "long", pace="zero2w", wanted=wanted)
        asked += (
            [(f"{wanted:,} tokens, of the two-ended optimum", 1.1, ratio(rows), rows)]
            if rows
            else []
        )
    asked.append(
        (
            "answers that differ from computing alone",
            0,
            sum(not row["equal"] for row in document["rows"]),
            None,
        )
    )
    lines = []
    for what, bar, value, rows in asked:
        unit, kept = " %" if bar < 0 else "", value <= bar
        lines.append(
            [
                what,
                f"≤ {bar:g}{unit}",
                f"{value:.3g}{unit}",
                "yes" if kept else f"**no**, by {value - bar:.2g}{unit}",
                "" if kept or not rows else spent(rows),
            ]
        )
    return table(
        ["", "bar", "median", "kept", "if not: where the time to the first token goes, s"], lines
    )


def kept(document):
    """How well the paces were maintained, and how busy the machine was."""
    rows = [row for row in document["rows"] if row.get("moved", {}).get("jobs")]
    jobs, late = (sum(row["moved"][what] for row in rows) for what in ("jobs", "late"))
    loads = [row["load"] for row in document["rows"] if "load" in row]
    return jobs, late, spread(loads, digits=1)


def tables(document):
    about, (jobs, late, load) = document["about"], kept(document)
    wrong = [row["key"] for row in document["rows"] if not row["equal"]]
    links = sorted({row["link"] for row in document["rows"] if "link" in row})
    parts = [
        f"{about['date']}, commit {about['commit']}, {about['version']}, {about['model']}, seed {about['seed']}, {about['cpu']} ({about['cores']} "
        f"cores; load {load} meanwhile). Link: {', '.join(links)}; round trip {about['round_trip_ms']} ms, a frame takes the air "
        f"{about['crossings']} time(s). {len(document['rows'])} rows, the last run took {about['minutes']} minutes. Of {jobs} paced jobs this "
        f"machine was too slow for {late}. "
        + (
            f"**{len(wrong)} answers differ from computing alone: {', '.join(wrong)}.**"
            if wrong
            else "Every answer is that of computing alone."
        ),
        "### The bars\n\n20.9 Mbit/s.\n\n" + bars(document),
        "### Against the published figures\n\n" + against_the_published(document),
        "### Bytes\n\n" + bytes_moved(document),
        "### The cases\n\nMedians, with the least and the most.\n\n" + cases(document),
        "### Long prompts\n\n" + long(document),
        "### A day's work\n\n" + days(document),
        "### Trouble\n\n" + trouble(document),
        "### What sharing costs the giver\n\n" + givers(document),
        "### Cold and warm\n\n" + starts(document),
        "### The published topology, run\n\n" + redis(document),
        "### llama.cpp's saved states, run on this machine\n\n" + llama(document),
    ]
    return "\n\n".join(parts) + "\n"


def figures(document):
    """The reference for the simulator: each first token of a prompt that no node has, and of one that a peer has."""
    rows = [
        row
        for row in of(document, "case")
        if row["case"] in (1, 5) and row["link"] == "radio" and row["moved"]["late"] == 0
    ]
    names = ("pace", "rate", "shots", "subject", "case", "tokens", "matched")
    return [
        {**{name: row[name] for name in names}, "ttft_ms": row["figures"]["ttft_ms"]}
        for row in rows
    ]


def main():
    source, page = Path(sys.argv[1]), Path(sys.argv[2])
    document = json.loads(source.read_text(encoding="utf-8"))
    head, rest = page.read_text(encoding="utf-8").split("<!-- results -->\n", 1)
    _, tail = rest.split("<!-- end of results -->\n", 1)
    page.write_text(
        f"{head}<!-- results -->\n{tables(document)}<!-- end of results -->\n{tail}",
        encoding="utf-8",
    )
    lines = ",\n".join(json.dumps(row) for row in figures(document))
    page.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()

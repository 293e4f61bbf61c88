"""The tables of docs/inside/evaluation.md, from the rows of a run.

    report.py target/paper/paper.json docs/inside/evaluation.md    # puts them there, and docs/inside/evaluation.json beside it, which tests read
"""

import json
import statistics
import sys
from pathlib import Path

from costs import F16_TOKEN, LOGITS_ROW, Pace, published_bytes

PACES = Path(__file__).parent
# As published (arXiv 2602.22812), seconds.
PUBLISHED = {"tokens": 65.27, "miss_ttft": 12.59, "hit_ttft": 0.87, "miss_ttlt": 23.74, "hit_ttlt": 11.86, "prefill": 12.58, "transfer": 0.862,
             "decode": 11.1, "bytes": 2.25e6}
# Of one prompt of 405 tokens, by tokens matched: seconds in all, transfer left out.
PARTIAL = {1: 27.2, 10: 26.3, 57: 24.6, 340: 13.3, 405: 11.2}
IDLE_W, BUSY_W = 0.75, 2.3
NAMES = {1: "1 nobody has it", 2: "2 instruction", 3: "3 + first example", 4: "4 + all examples", 5: "5 whole prompt"}


def spread(values, scale=1.0, digits=2):
    """Median, and the least and the most."""
    known = [value * scale for value in values if value is not None]
    if not known:
        return "–"
    middle = f"{statistics.median(known):.{digits}f}"
    return middle if len(known) == 1 else f"{middle} ({min(known):.{digits}f}–{max(known):.{digits}f})"


def change(new, old):
    return f"{100 * (new / old - 1):+.1f} %"


def median(rows, value):
    return statistics.median(value(row) for row in rows)


def ttft(row):
    return row["figures"]["ttft_ms"] / 1e3


def ttlt(row):
    return row["figures"]["ttlt_ms"] / 1e3


def energy(row):
    """Joules of the asking board until the last token: busy while its engine works, else idle. An estimate."""
    busy = (row["figures"]["prefill_us"] + row["figures"]["decode_us"]) / 1e6
    return busy * BUSY_W + max(0.0, ttlt(row) - busy) * IDLE_W


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return "\n".join(lines) + "\n"


def of(document, kind, **wanted):
    rows = [row for row in document["rows"] if row["kind"] == kind]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def cases(document):
    """For each pace, rate and number of examples, a table as published."""
    parts = []
    groups = sorted({(row["pace"], row["rate"], row["shots"]) for row in of(document, "case")}, key=str)
    for pace, rate, shots in groups:
        rows = of(document, "case", pace=pace, rate=rate, shots=shots)
        lines, misses = [], [row for row in rows if row["case"] == 1]
        for case in sorted({row["case"] for row in rows}):
            some = [row for row in rows if row["case"] == case]
            figures = [row["figures"] for row in some]
            alone = {(row["subject"], row["question"], row["repetition"]): ttft(row) for row in misses}
            paired = [ttft(row) / alone[same] for row in some if (same := (row["subject"], row["question"], row["repetition"])) in alone]
            lines.append([
                NAMES[case], len(some), spread([row["tokens"] for row in some], digits=0), spread([row["matched"] for row in some], digits=0),
                spread([row["moved"]["tcp"] for row in some], 1e-6), spread([figure["tokenising_us"] for figure in figures], 1e-3, 1),
                spread([figure["lookup_us"] for figure in figures], 1e-3, 1), spread([figure["prefill_us"] for figure in figures], 1e-6),
                spread([figure["fetched_ms"] for figure in figures], 1e-3), spread([figure["decode_us"] for figure in figures], 1e-6),
                spread([figure["sampling_us"] for figure in figures], 1e-3, 1), spread(map(ttft, some)), spread(map(ttlt, some)),
                spread([row["optimum_s"] for row in some]), f"{median(some, lambda row: ttft(row) / row['optimum_s']):.2f}",
                change(statistics.median(paired), 1) if paired and case != 1 else "–", spread(map(energy, some), digits=1),
            ])
        head = ["case", "prompts", "tokens", "matched", "moved, MB", "tokenising, ms", "look-ups, ms", "engine before the first token, s",
                "last state taken over after, s", "decode, s", "sampling, ms", "TTFT, s", "TTLT, s", "two-ended optimum, s", "TTFT ÷ optimum",
                "TTFT against the same prompt's miss", "energy, J (estimate)"]
        parts.append(f"**{pace}, {rate} Mbit/s, {shots} example{'s' * (shots != 1)}**\n\n" + table(head, lines))
    return "\n".join(parts)


def against_the_published(document):
    lines = []
    for pace in ("paper", "zero2w", "boards"):
        rows = of(document, "case", pace=pace, rate=20.9, shots=0)
        miss, hit = ([row for row in rows if row["case"] == case] for case in (1, 5))
        if not miss or not hit:
            continue
        figures = [median(miss, ttft), median(hit, ttft), median(miss, ttlt), median(hit, ttlt)]
        lines.append(["potluck, these boards" if pace == "boards" else f"potluck, pace `{pace}`", spread([row["tokens"] for row in hit], digits=0),
                      *(f"{figure:.2f}" for figure in figures[:2]), change(figures[1], figures[0]), change(figures[1], PUBLISHED["miss_ttft"]),
                      *(f"{figure:.2f}" for figure in figures[2:]), change(figures[3], figures[2]), change(figures[3], PUBLISHED["miss_ttlt"]),
                      spread([row["moved"]["tcp"] for row in hit], 1e-6)])
    p = PUBLISHED
    lines.insert(0, ["**published**", p["tokens"], p["miss_ttft"], p["hit_ttft"], change(p["hit_ttft"], p["miss_ttft"]), "",
                     p["miss_ttlt"], p["hit_ttlt"], change(p["hit_ttlt"], p["miss_ttlt"]), "", f"{p['bytes'] / 1e6:.2f}"])
    head = ["", "tokens", "TTFT miss, s", "TTFT hit, s", "change", "hit against the published miss", "TTLT miss, s", "TTLT hit, s", "change",
            "hit against the published miss", "moved, MB"]
    return table(head, lines)


def bytes_moved(document):
    lines = []
    for shots in (0, 1, 5):
        rows = [row for row in of(document, "case", case=5, shots=shots) if row["moved"]["tcp"]]
        if rows:
            tokens = median(rows, lambda row: row["tokens"])
            moved = median(rows, lambda row: row["moved"]["tcp"])
            used = [sum(count for _, count in row["figures"]["peers"]) for row in rows]
            lines.append([shots, len(rows), spread([row["tokens"] for row in rows], digits=0), spread(used, digits=0),
                          spread([row["moved"]["planes"] for row in rows], 1e-6), spread([row["moved"]["tcp"] for row in rows], 1e-6),
                          spread([row["moved"]["wire"] for row in rows], 1e-6),
                          f"{published_bytes(tokens) / 1e6:.2f}", f"{published_bytes(tokens) / moved:.1f}"])
    head = ["examples", "prompts", "tokens", "taken from the peer", "whole planes of state, MB", "all of TCP's payload: frames, encryption, and what "
            "came too late to be of use, MB", "with TCP/IP and Ethernet, MB",
            f"published format, MB ({F16_TOKEN:,} B a token, {LOGITS_ROW:,} B of logits)", "times ours"]
    return table(head, lines)


def days(document):
    lines = []
    for row in sorted(of(document, "day"), key=lambda row: row["boards"]):
        asks = row["asks"]
        total = sum(ask["tokens"] for ask in asks)
        shares = [f"{100 * sum(ask[source] for ask in asks) / total:.0f} %" for source in ("own", "peers", "computed")]
        late = asks[len(asks) // 2:]
        rest = sum(ask["tokens"] for ask in late)
        lines.append([row["boards"], len(asks), *shares, f"{100 * sum(ask['computed'] for ask in late) / rest:.0f} %",
                      spread([ask["ttft_ms"] for ask in asks], 1e-3), f"{sum(ask['moved']['tcp'] or 0 for ask in asks) / 1e6:.1f}",
                      f"{row['air'].get('air_s', 0):.1f}"])
    head = ["boards", "prompts", "own slab", "peers", "computed", "computed, second half", "TTFT, s", "moved, MB", "air, s"]
    return table(head, lines)


def long(document):
    lines = []
    for row in of(document, "long"):
        lines.append([row["tokens"], NAMES[row["case"]], row["matched"], f"{ttft(row):.2f}", f"{row['optimum_s']:.2f}",
                      f"{ttft(row) / row['optimum_s']:.2f}", f"{row['miss_s']:.2f}", f"{(row['moved']['tcp'] or 0) / 1e6:.2f}"])
    return table(["tokens", "case", "matched", "TTFT, s", "optimum, s", "÷", "a miss by the pace, s", "moved, MB"], sorted(lines, key=str))


def trouble(document):
    lines = []
    for kind in dict.fromkeys(row["trouble"] for row in of(document, "trouble")):
        rows = of(document, "trouble", trouble=kind)
        bound = median(rows, lambda row: 1.05 * row["miss_s"] + row["step_s"])
        lines.append([kind, len(rows), spread(map(ttft, rows)), f"{median(rows, lambda row: row['miss_s']):.2f}", f"{bound:.2f}",
                      "yes" if all(ttft(row) <= 1.05 * row["miss_s"] + row["step_s"] for row in rows) else "**no**"])
    return table(["what happens", "prompts", "TTFT, s", "a miss by the pace, s", "bound: 5 % and a step more, s", "kept"], lines)


def givers(document):
    lines = []
    for serving in (False, True):
        rows = of(document, "giver", serving=serving)
        if rows:
            fetched = [row["fetched"]["ttft_ms"] / 1e3 for row in rows if row["fetched"]]
            lines.append(["while it serves" if serving else "left alone", len(rows), spread(map(ttft, rows)), spread(map(ttlt, rows)),
                          spread([row["sent"] and row["sent"]["tcp_sent"] for row in rows], 1e-6), spread([row["air_s"] for row in rows]),
                          spread(fetched)])
    return table(["the giver's own answer", "prompts", "TTFT, s", "TTLT of 16 tokens, s", "sent, MB", "air, s", "the other's TTFT, s"], lines)


def starts(document):
    rows = of(document, "start")
    if not rows:
        return ""
    again = [row["again"]["ttft_ms"] / 1e3 for row in rows]
    lines = [[len(rows), spread([row["start_s"] for row in rows]), spread(map(ttft, rows)), spread(again)]]
    return table(["prompts", "from start to ready, s", "first prompt, which a peer has: TTFT, s", "the same again, from its own slab: TTFT, s"], lines)


def redis(document):
    lines = []
    for shots in (0, 5):
        rows = of(document, "redis", shots=shots)
        ours = of(document, "case", pace="paper" if shots == 0 else "paper-partial", rate=20.9, shots=shots, case=5)
        if rows:
            lines.append([shots, len(rows), spread([row["tokens"] for row in rows], digits=0), spread([row["bytes"] for row in rows], 1e-6),
                          spread([row["set_s"] for row in rows]), spread([row["get_s"] for row in rows]),
                          spread(map(ttft, ours)) if ours else "–"])
    head = ["examples", "prompts", "tokens", "bytes, MB", "upload (SET), s", "transfer on a hit (GET), s", "potluck's whole TTFT, hit, s"]
    return table(head, lines)


def llama(document):
    lines = []
    for shots in (0, 5):
        rows = of(document, "llama", shots=shots)
        if rows:
            lines.append([shots, len(rows), spread([row["tokens"] for row in rows], digits=0), spread([row["bytes"] for row in rows], 1e-6),
                          f"{median(rows, lambda row: row['bytes'] / row['tokens']):,.0f}", spread([row["prefill_s"] for row in rows], 1e3, 0),
                          spread([row["save_s"] for row in rows], 1e3, 1), spread([row["load_s"] for row in rows], 1e3, 1),
                          f"{sum(row['same'] for row in rows)} of {len(rows)}"])
    head = ["examples", "prompts", "tokens", "saved, MB", "B a token", "prefill here, ms", "save, ms", "load, ms", "same tokens after loading"]
    return table(head, lines)


def of_alone(row):
    """An answer's whole time, as a part of what computing and decoding it token by token takes by the pace."""
    return ttlt(row) / Pace(PACES / f"{row['pace']}.toml").answered_s(row["tokens"], row["figures"]["generated"])


def spent(rows):
    """Where the time to the first token of these answers goes, by the costs of the pace and the link: what computing and fetching at once have
    to take, what the pass behind that takes, and the rest. Medians, in seconds."""
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
    """What was asked of it, and whether it is so."""
    def some(**wanted):
        return of(document, "case", rate=20.9, **wanted)

    def ratio(rows):
        return median(rows, lambda row: ttft(row) / row["optimum_s"])

    asked = []
    hit, hit_paper, miss_paper = some(pace="zero2w", shots=0, case=5), some(pace="paper", shots=0, case=5), some(pace="paper", shots=0, case=1)
    if hit:
        took = median(hit, ttft)
        asked += [("the whole prompt of some 65 tokens, our pace: TTFT, s", 0.25, took, hit),
                  ("the same against the published miss", -97, 100 * (took / PUBLISHED["miss_ttft"] - 1), hit),
                  ("the same, of the two-ended optimum", 1.1, ratio(hit), hit),
                  ("the same, MB moved", 0.65, median(hit, lambda row: (row["moved"]["tcp"] or 0) / 1e6), None),
                  ("the same with the answer that the peer has given: TTLT against the published miss", -90,
                   100 * (median(hit, ttlt) / PUBLISHED["miss_ttlt"] - 1), None),
                  ("the same, TTLT of a miss decoded token by token (by the pace)", 0.2, median(hit, of_alone), None)]
    if hit_paper and miss_paper:
        by_ttft, by_ttlt = (100 * (median(hit_paper, of_row) / median(miss_paper, of_row) - 1) for of_row in (ttft, ttlt))
        asked += [("the same at the paper's pace, TTFT against a miss", -98, by_ttft, hit_paper),
                  ("the same at the paper's pace, TTLT against a miss", -50, by_ttlt, hit_paper)]
    for shots in (1, 5):
        for case in (2, 3, 4, 5):
            rows = some(pace="zero2w", shots=shots, case=case)
            asked += [(f"case {NAMES[case]}, {shots} example(s), of the two-ended optimum", 1.1, ratio(rows), rows)] if rows else []
    near = [row for row in some(pace="zero2w", shots=5, case=5) if 350 <= row["tokens"] <= 460]
    if near:
        by_token = median(near, lambda row: (row["moved"]["tcp"] or 0) / row["tokens"])
        asked.append(("the whole prompt, scaled to 405 tokens, MB moved", 4.0, 405 * by_token / 1e6, None))
    for wanted in (1_024, 2_048):
        rows = of(document, "long", pace="zero2w", wanted=wanted)
        asked += [(f"{wanted:,} tokens, of the two-ended optimum", 1.1, ratio(rows), rows)] if rows else []
    asked.append(("answers that differ from computing alone", 0, sum(not row["equal"] for row in document["rows"]), None))
    lines = []
    for what, bar, value, rows in asked:
        unit, kept = " %" if bar < 0 else "", value <= bar
        lines.append([what, f"≤ {bar:g}{unit}", f"{value:.3g}{unit}", "yes" if kept else f"**no**, by {value - bar:.2g}{unit}",
                      "" if kept or not rows else spent(rows)])
    return table(["", "bar", "median", "kept", "if not: where the time to the first token goes, s"], lines)


def kept(document):
    """How well the paces were kept, and how busy the machine was."""
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
        + (f"**{len(wrong)} answers differ from computing alone: {', '.join(wrong)}.**" if wrong else "Every answer is that of computing alone."),
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
    """What the simulator is held to: each first token of a prompt that nobody has, and of one that a peer has."""
    rows = [row for row in of(document, "case") if row["case"] in (1, 5) and row["link"] == "radio" and row["moved"]["late"] == 0]
    names = ("pace", "rate", "shots", "subject", "case", "tokens", "matched")
    return [{**{name: row[name] for name in names}, "ttft_ms": row["figures"]["ttft_ms"]} for row in rows]


def main():
    source, page = Path(sys.argv[1]), Path(sys.argv[2])
    document = json.loads(source.read_text(encoding="utf-8"))
    head, rest = page.read_text(encoding="utf-8").split("<!-- results -->\n", 1)
    _, tail = rest.split("<!-- end of results -->\n", 1)
    page.write_text(f"{head}<!-- results -->\n{tables(document)}<!-- end of results -->\n{tail}", encoding="utf-8")
    lines = ",\n".join(json.dumps(row) for row in figures(document))
    page.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()

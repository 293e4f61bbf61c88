"""A table for each kind of measurement in a run, and how its rows are read."""

import statistics

from costs import F16_TOKEN, LOGITS_ROW, published_bytes

IDLE_W, BUSY_W = 0.75, 2.3
NAMES = {
    1: "1 nobody has it",
    2: "2 instruction",
    3: "3 + first example",
    4: "4 + all examples",
    5: "5 whole prompt",
}


def spread(values, scale=1.0, digits=2):
    """Median, minimum and maximum."""
    known = [value * scale for value in values if value is not None]
    if not known:
        return "–"
    middle = f"{statistics.median(known):.{digits}f}"
    return (
        middle if len(known) == 1 else f"{middle} ({min(known):.{digits}f}–{max(known):.{digits}f})"
    )


def change(new, old):
    return f"{100 * (new / old - 1):+.1f} %"


def median(rows, value):
    return statistics.median(value(row) for row in rows)


def ttft(row):
    return row["figures"]["ttft_ms"] / 1e3


def ttlt(row):
    return row["figures"]["ttlt_ms"] / 1e3


def energy(row):
    """Joules that the asking board takes until the last token: busy while its engine works, otherwise idle. An estimate."""
    busy = (row["figures"]["prefill_us"] + row["figures"]["decode_us"]) / 1e6
    return busy * BUSY_W + max(0.0, ttlt(row) - busy) * IDLE_W


def table(head, rows):
    lines = [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def of(document, kind, **wanted):
    rows = [row for row in document["rows"] if row["kind"] == kind]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def cases(document):
    """For each pace, rate and number of examples, a table like the published one."""
    parts = []
    groups = sorted(
        {(row["pace"], row["rate"], row["shots"]) for row in of(document, "case")}, key=str
    )
    for pace, rate, shots in groups:
        rows = of(document, "case", pace=pace, rate=rate, shots=shots)
        lines, misses = [], [row for row in rows if row["case"] == 1]
        for case in sorted({row["case"] for row in rows}):
            some = [row for row in rows if row["case"] == case]
            figures = [row["figures"] for row in some]
            alone = {
                (row["subject"], row["question"], row["repetition"]): ttft(row) for row in misses
            }
            paired = [
                ttft(row) / alone[same]
                for row in some
                if (same := (row["subject"], row["question"], row["repetition"])) in alone
            ]
            lines.append(
                [
                    NAMES[case],
                    len(some),
                    spread([row["tokens"] for row in some], digits=0),
                    spread([row["matched"] for row in some], digits=0),
                    spread([row["moved"]["tcp"] for row in some], 1e-6),
                    spread([figure["tokenising_us"] for figure in figures], 1e-3, 1),
                    spread([figure["lookup_us"] for figure in figures], 1e-3, 1),
                    spread([figure["prefill_us"] for figure in figures], 1e-6),
                    spread([figure["fetched_ms"] for figure in figures], 1e-3),
                    spread([figure["decode_us"] for figure in figures], 1e-6),
                    spread([figure["sampling_us"] for figure in figures], 1e-3, 1),
                    spread(map(ttft, some)),
                    spread(map(ttlt, some)),
                    spread([row["optimum_s"] for row in some]),
                    f"{median(some, lambda row: ttft(row) / row['optimum_s']):.2f}",
                    change(statistics.median(paired), 1) if paired and case != 1 else "–",
                    spread(map(energy, some), digits=1),
                ]
            )
        head = [
            "case",
            "prompts",
            "tokens",
            "matched",
            "moved, MB",
            "tokenising, ms",
            "look-ups, ms",
            "engine before the first token, s",
            "last state taken over after, s",
            "decode, s",
            "sampling, ms",
            "TTFT, s",
            "TTLT, s",
            "two-ended optimum, s",
            "TTFT ÷ optimum",
            "TTFT against the same prompt's miss",
            "energy, J (estimate)",
        ]
        parts.append(
            f"**{pace}, {rate} Mbit/s, {shots} example{'s' * (shots != 1)}**\n\n"
            + table(head, lines)
        )
    return "\n".join(parts)


def bytes_moved(document):
    lines = []
    for shots in (0, 1, 5):
        rows = [row for row in of(document, "case", case=5, shots=shots) if row["moved"]["tcp"]]
        if rows:
            tokens = median(rows, lambda row: row["tokens"])
            moved = median(rows, lambda row: row["moved"]["tcp"])
            used = [sum(count for _, count in row["figures"]["peers"]) for row in rows]
            lines.append(
                [
                    shots,
                    len(rows),
                    spread([row["tokens"] for row in rows], digits=0),
                    spread(used, digits=0),
                    spread([row["moved"]["planes"] for row in rows], 1e-6),
                    spread([row["moved"]["tcp"] for row in rows], 1e-6),
                    spread([row["moved"]["wire"] for row in rows], 1e-6),
                    f"{published_bytes(tokens) / 1e6:.2f}",
                    f"{published_bytes(tokens) / moved:.1f}",
                ]
            )
    head = [
        "examples",
        "prompts",
        "tokens",
        "taken from the peer",
        "whole planes of state, MB",
        "all of TCP's payload: frames, encryption, and what came too late to be of use, MB",
        "with TCP/IP and Ethernet, MB",
        f"published format, MB ({F16_TOKEN:,} B a token, {LOGITS_ROW:,} B of logits)",
        "times ours",
    ]
    return table(head, lines)


def days(document):
    lines = []
    for row in sorted(of(document, "day"), key=lambda row: row["boards"]):
        asks = row["asks"]
        total = sum(ask["tokens"] for ask in asks)
        shares = [
            f"{100 * sum(ask[source] for ask in asks) / total:.0f} %"
            for source in ("own", "peers", "computed")
        ]
        late = asks[len(asks) // 2 :]
        rest = sum(ask["tokens"] for ask in late)
        lines.append(
            [
                row["boards"],
                len(asks),
                *shares,
                f"{100 * sum(ask['computed'] for ask in late) / rest:.0f} %",
                spread([ask["ttft_ms"] for ask in asks], 1e-3),
                f"{sum(ask['moved']['tcp'] or 0 for ask in asks) / 1e6:.1f}",
                f"{row['air'].get('air_s', 0):.1f}",
            ]
        )
    head = [
        "boards",
        "prompts",
        "own slab",
        "peers",
        "computed",
        "computed, second half",
        "TTFT, s",
        "moved, MB",
        "air, s",
    ]
    return table(head, lines)


def long(document):
    lines = []
    for row in of(document, "long"):
        lines.append(
            [
                row["tokens"],
                NAMES[row["case"]],
                row["matched"],
                f"{ttft(row):.2f}",
                f"{row['optimum_s']:.2f}",
                f"{ttft(row) / row['optimum_s']:.2f}",
                f"{row['miss_s']:.2f}",
                f"{(row['moved']['tcp'] or 0) / 1e6:.2f}",
            ]
        )
    return table(
        [
            "tokens",
            "case",
            "matched",
            "TTFT, s",
            "optimum, s",
            "÷",
            "a miss by the pace, s",
            "moved, MB",
        ],
        sorted(lines, key=str),
    )


def trouble(document):
    lines = []
    for kind in dict.fromkeys(row["trouble"] for row in of(document, "trouble")):
        rows = of(document, "trouble", trouble=kind)
        bound = median(rows, lambda row: 1.05 * row["miss_s"] + row["step_s"])
        lines.append(
            [
                kind,
                len(rows),
                spread(map(ttft, rows)),
                f"{median(rows, lambda row: row['miss_s']):.2f}",
                f"{bound:.2f}",
                "yes"
                if all(ttft(row) <= 1.05 * row["miss_s"] + row["step_s"] for row in rows)
                else "**no**",
            ]
        )
    return table(
        [
            "what happens",
            "prompts",
            "TTFT, s",
            "a miss by the pace, s",
            "bound: 5 % and a step more, s",
            "kept",
        ],
        lines,
    )


def givers(document):
    lines = []
    for serving in (False, True):
        rows = of(document, "giver", serving=serving)
        if rows:
            fetched = [row["fetched"]["ttft_ms"] / 1e3 for row in rows if row["fetched"]]
            lines.append(
                [
                    "while it serves" if serving else "left alone",
                    len(rows),
                    spread(map(ttft, rows)),
                    spread(map(ttlt, rows)),
                    spread([row["sent"] and row["sent"]["tcp_sent"] for row in rows], 1e-6),
                    spread([row["air_s"] for row in rows]),
                    spread(fetched),
                ]
            )
    return table(
        [
            "the giver's own answer",
            "prompts",
            "TTFT, s",
            "TTLT of 16 tokens, s",
            "sent, MB",
            "air, s",
            "the other's TTFT, s",
        ],
        lines,
    )


def starts(document):
    rows = of(document, "start")
    if not rows:
        return ""
    again = [row["again"]["ttft_ms"] / 1e3 for row in rows]
    lines = [
        [
            len(rows),
            spread([row["start_s"] for row in rows]),
            spread(map(ttft, rows)),
            spread(again),
        ]
    ]
    return table(
        [
            "prompts",
            "from start to ready, s",
            "first prompt, which a peer has: TTFT, s",
            "the same again, from its own slab: TTFT, s",
        ],
        lines,
    )


def redis(document):
    lines = []
    for shots in (0, 5):
        rows = of(document, "redis", shots=shots)
        ours = of(
            document,
            "case",
            pace="paper" if shots == 0 else "paper-partial",
            rate=20.9,
            shots=shots,
            case=5,
        )
        if rows:
            lines.append(
                [
                    shots,
                    len(rows),
                    spread([row["tokens"] for row in rows], digits=0),
                    spread([row["bytes"] for row in rows], 1e-6),
                    spread([row["set_s"] for row in rows]),
                    spread([row["get_s"] for row in rows]),
                    spread(map(ttft, ours)) if ours else "–",
                ]
            )
    head = [
        "examples",
        "prompts",
        "tokens",
        "bytes, MB",
        "upload (SET), s",
        "transfer on a hit (GET), s",
        "potluck's whole TTFT, hit, s",
    ]
    return table(head, lines)


def llama(document):
    lines = []
    for shots in (0, 5):
        rows = of(document, "llama", shots=shots)
        if rows:
            lines.append(
                [
                    shots,
                    len(rows),
                    spread([row["tokens"] for row in rows], digits=0),
                    spread([row["bytes"] for row in rows], 1e-6),
                    f"{median(rows, lambda row: row['bytes'] / row['tokens']):,.0f}",
                    spread([row["prefill_s"] for row in rows], 1e3, 0),
                    spread([row["save_s"] for row in rows], 1e3, 1),
                    spread([row["load_s"] for row in rows], 1e3, 1),
                    f"{sum(row['same'] for row in rows)} of {len(rows)}",
                ]
            )
    head = [
        "examples",
        "prompts",
        "tokens",
        "saved, MB",
        "B a token",
        "prefill here, ms",
        "save, ms",
        "load, ms",
        "same tokens after loading",
    ]
    return table(head, lines)

#!/usr/bin/env python3
"""Draws docs/inside/performance.svg from measured figures: one bar for each case and program.

    tools/plot.py docs/inside/performance.json docs/inside/performance.svg

The JSON comes from `bench-peer compare --json`. Bars are relative to llama.cpp's tokens per second; whiskers are the fastest and
the slowest run. Needs only Python.
"""

import json
import sys
from html import escape
from statistics import median

COLOURS = {"potluck": "#2a6f97", "llama.cpp": "#c9ada7"}
BAR, GAP, LEFT, WIDTH = 16, 22, 310, 460


def cases(document):
    """(title, {program: rates of the rounds}) for each file, number of threads and case."""
    names = [program["name"] for program in document["programs"]]
    found = {}
    for row in document["rows"]:
        if row["case"] not in ("prefill", "decode"):
            continue
        kind = f"{row['case']} {row['tokens']}" + (f" after {row['depth']}" if row["depth"] else "")
        title = f"{row['model'].removesuffix('.gguf')}, {row['threads']} thread{'s' * (row['threads'] != 1)}: {kind}"
        found[title] = {
            name: [row["tokens"] / seconds for seconds in round_s]
            for name, round_s in zip(names, row["rounds"])
        }
    return found


def draw(found, note):
    """The picture."""
    per_case = BAR * len(COLOURS) + GAP
    height = 50 + per_case * len(found) + 30
    longest = max(
        max(rates) / median(of["llama.cpp"]) for of in found.values() for rates in of.values()
    )
    scale = WIDTH / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="20">{escape(note)}</text>',
    ]
    for number, (name, colour) in enumerate(COLOURS.items()):
        parts.append(
            f'<rect x="{8 + number * 100}" y="28" width="12" height="12" fill="{colour}"/>'
        )
        parts.append(f'<text x="{24 + number * 100}" y="38">{name}</text>')
    top = 54
    for title, of in found.items():
        base = median(of["llama.cpp"])
        parts.append(
            f'<text x="{LEFT - 8}" y="{top + BAR + 4}" text-anchor="end">{escape(title)}</text>'
        )
        for row, (name, colour) in enumerate(COLOURS.items()):
            rates, y = of[name], top + row * BAR
            long, low, high = (
                value / base * scale for value in (median(rates), min(rates), max(rates))
            )
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{long:.1f}" height="{BAR - 2}" fill="{colour}"/>'
            )
            middle = y + (BAR - 2) / 2
            parts.append(f'<path d="M{LEFT + low:.1f} {middle}H{LEFT + high:.1f}" stroke="#333"/>')
            text = f"{median(rates):.0f} tokens/s"
            parts.append(
                f'<text x="{LEFT + max(long, high) + 6:.1f}" y="{y + BAR - 4}" font-size="11">{text}</text>'
            )
        top += per_case
    parts.append(
        f'<path d="M{LEFT + scale:.1f} 48V{top - GAP + 4}" stroke="#666" stroke-dasharray="3 3"/>'
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        document = json.load(file)
    picture = draw(cases(document), document.get("note", ""))
    with open(target, "w", encoding="utf-8") as file:
        file.write(picture)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Draws docs/inside/scale.svg from measured swarms: one panel per figure, with the number of nodes on the x axis.

    tools/plot_scale.py docs/inside/scale.json docs/inside/scale.svg

The JSON comes from `make scale`. Needs only Python.
"""

import json
import math
import sys

PANELS = [
    ("Air of an idle swarm, ‰ at 1 Mbit/s", ["idle_air_per_mille"]),
    ("Air of a swarm at work, ‰", ["work_air_per_mille"]),
    ("A new block is known to half, to 99 %, s", ["block_known_half_ms", "block_known_99_ms"]),
    ("Hits lost against perfect knowledge, %", ["hit_loss_percent"]),
    ("After a lost delta: known to 99 %, s", ["lost_delta_99_ms"]),
    ("After a lost delta: connections", ["lost_delta_connects", "lost_delta_refused"]),
    ("A newcomer knows 95 %, all, s", ["newcomer_known_95_ms", "newcomer_known_ms"]),
    ("Memory a node, kB", ["memory_kb_a_node"]),
]
COLOURS = ["#2a6f97", "#c9ada7"]
WIDTH, HEIGHT, MARGIN, COLUMNS = 300, 170, 46, 2


def panel(title, fields, rows, left, top):
    """One small diagram: logarithmic x axis, linear y axis."""
    scale = {name: 1e-3 if name.endswith("_ms") else 1 for name in fields}
    series = {
        name: [(row["nodes"], row[name] * scale[name]) for row in rows if row[name] is not None]
        for name in fields
    }
    highest = max((value for points in series.values() for _, value in points), default=0) or 1
    low, high = math.log10(rows[0]["nodes"]), math.log10(rows[-1]["nodes"])
    inner_width, inner_height = WIDTH - MARGIN - 14, HEIGHT - 58

    def place(nodes, value):
        along = (math.log10(nodes) - low) / ((high - low) or 1)
        return left + MARGIN + along * inner_width, top + 26 + inner_height * (1 - value / highest)

    floor = top + 26 + inner_height
    parts = [
        f'<text x="{left + 8}" y="{top + 14}" font-weight="bold">{title}</text>',
        f'<path d="M{left + MARGIN} {top + 26}V{floor}H{left + MARGIN + inner_width}" stroke="#666" fill="none"/>',
        f'<text x="{left + MARGIN - 5}" y="{top + 32}" text-anchor="end" font-size="10">{highest:.3g}</text>',
        f'<text x="{left + MARGIN - 5}" y="{floor}" text-anchor="end" font-size="10">0</text>',
    ]
    for row in rows:
        x, _ = place(row["nodes"], 0)
        parts.append(
            f'<text x="{x:.1f}" y="{floor + 14}" text-anchor="middle" font-size="10">{row["nodes"]}</text>'
        )
    for colour, points in zip(COLOURS, series.values()):
        places = [place(*point) for point in points]
        if places:
            parts.append(
                f'<path d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in places)}" stroke="{colour}" fill="none" stroke-width="2"/>'
            )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return parts


def draw(rows):
    """The picture."""
    lines = math.ceil(len(PANELS) / COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{COLUMNS * WIDTH}" height="{lines * HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (title, fields) in enumerate(PANELS):
        parts += panel(title, fields, rows, number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT)
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    """Reads the figures, writes the picture."""
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = sorted(json.load(file), key=lambda row: row["nodes"])
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(draw(rows))


if __name__ == "__main__":
    main()

"""The pictures of docs/inside/evaluation.md, as SVG by matplotlib: readable in black and white, by
hatches, marks and lines."""

import json
import statistics
import sys
from pathlib import Path

from costs import Pace, optimum_s
from report import PARTIAL, PUBLISHED
from tables import NAMES, of, ttft, ttlt

HATCHES = ["", "//", "\\\\", "x"]
GREYS = ["#222222", "#777777", "#bbbbbb", "#eeeeee", "#999999"]
MARKS = ["o", "s", "^", "D", "v"]


def parts(row):
    """The parts of the time to the last token: before the first token outside the engine (waiting
    for peers, tokenizing and look-ups), before the first token in the engine, and the rest."""
    figures = row["figures"]
    prefill = min(figures["prefill_us"] / 1e6, ttft(row))
    return {
        "waiting, tokens, look-ups": ttft(row) - prefill,
        "engine until the first token": prefill,
        "decoding": ttlt(row) - ttft(row),
    }


def save(figure, path):
    """Saves the same bytes for the same figures: without the program's version and a date."""
    figure.savefig(path, metadata={name: None for name in ("Creator", "Date", "Format", "Type")})


def bare(axis):
    axis.spines[["top", "right"]].set_visible(False)


def finish(plot, figure, path):
    figure.tight_layout()
    save(figure, path)
    plot.close(figure)


def finish_graph(plot, figure, axis, labels, path):
    """The same for a figure of one graph, which gets its labels and a legend."""
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.legend(fontsize=7, frameon=False)
    bare(axis)
    finish(plot, figure, path)


def shares_of(times):
    """The share of the times up to each one, in percent."""
    return [100 * (place + 1) / len(times) for place in range(len(times))]


def middle(rows, value):
    return statistics.median(value(row) for row in rows)


def bars(plot, document, out):
    """Times to the first and last token by case, stacked by part, beside the published ones."""
    for pace, shots in (
        ("zero2w", 0),
        ("zero2w", 1),
        ("zero2w", 5),
        ("paper", 0),
        ("paper-partial", 5),
    ):
        rows = of(document, "case", pace=pace, rate=20.9, shots=shots)
        numbers = sorted({row["case"] for row in rows})
        if not numbers:
            continue
        figure, axes = plot.subplots(1, 2, figsize=(10, 3.6))
        for axis, names in zip(
            axes,
            (
                ("engine until the first token", "waiting, tokens, look-ups"),
                ("engine until the first token", "waiting, tokens, look-ups", "decoding"),
            ),
        ):
            # Times to the last token of answers of different lengths are not comparable.
            longest = max(row["figures"]["generated"] for row in rows)
            whole = {row["case"] for row in rows if row["figures"]["generated"] > longest / 2}
            shown = [case for case in numbers if len(names) == 2 or case in whole]
            labels = [NAMES[case] for case in shown]
            bottom = [0.0] * len(shown)
            for at, name in enumerate(names):
                heights = [
                    middle(
                        [row for row in rows if row["case"] == case], lambda row: parts(row)[name]
                    )
                    for case in shown
                ]
                axis.bar(
                    labels,
                    heights,
                    bottom=bottom,
                    color=GREYS[at + 1],
                    edgecolor="black",
                    hatch=HATCHES[at],
                    label=name,
                    width=0.6,
                )
                bottom = [low + height for low, height in zip(bottom, heights)]
            if shots == 0:
                words = ("ttft", "ttlt") if len(names) == 3 else ("ttft",)
                seconds = [PUBLISHED[f"{when}_{words[-1]}"] for when in ("miss", "hit")]
                axis.bar(
                    ["published miss", "published hit"],
                    seconds,
                    color="white",
                    edgecolor="black",
                    hatch="xx",
                    width=0.6,
                    label="as published, not run",
                )
            axis.set_ylabel("seconds")
            axis.tick_params(axis="x", rotation=30, labelsize=8)
            for label in axis.get_xticklabels():
                label.set_horizontalalignment("right")
            bare(axis)
        axes[0].set_title(f"TTFT, pace {pace}, N = {shots}, 20.9 Mbit/s", fontsize=9)
        axes[1].set_title("TTLT" + ("" if shots == 0 else " (answers of 4 tokens)"), fontsize=9)
        axes[1].set_ylim(top=1.35 * axes[1].get_ylim()[1])
        axes[1].legend(fontsize=7, frameon=False, ncols=2, loc="upper left")
        finish(plot, figure, out / f"cases-{pace}-{shots}.svg")


def matched(plot, document, out):
    """Time to the first token against the tokens that matched."""
    figure, axis = plot.subplots(figsize=(6.5, 3.6))
    for at, (pace, shots) in enumerate(
        (("zero2w", 0), ("zero2w", 1), ("zero2w", 5), ("paper-partial", 5))
    ):
        rows = of(document, "case", pace=pace, rate=20.9, shots=shots)
        axis.plot(
            [row["matched"] / row["tokens"] for row in rows],
            [ttft(row) for row in rows],
            MARKS[at],
            color="black",
            markersize=5,
            markerfacecolor=["white", "#cccccc", "#777777", "black"][at],
            linestyle="none",
            label=f"pace {pace}, N = {shots}",
        )
    tokens, times = zip(
        *((count / 405, seconds - PARTIAL[405]) for count, seconds in PARTIAL.items())
    )
    axis.plot(
        tokens, times, "x--", color="black", label="as published, 405 tokens, transfer left out"
    )
    labels = ("share of the prompt that a peer has", "TTFT, s")
    finish_graph(plot, figure, axis, labels, out / "matched.svg")


def moved(plot, document, out):
    """Bytes transferred for a prompt that a peer has, against its length."""
    figure, axis = plot.subplots(figsize=(6.5, 3.4))
    rows = [
        row
        for kind in ("case", "long")
        for row in of(document, kind, case=5)
        if row["moved"]["tcp"]
    ]
    if rows:
        axis.plot(
            [row["tokens"] for row in rows],
            [row["moved"]["tcp"] / 1e6 for row in rows],
            "o",
            color="black",
            markersize=4,
            label="potluck, frames and encryption included",
        )
        longest = max(row["tokens"] for row in rows)
        axis.plot(
            [0, longest],
            [1.05, 1.05 + longest * 18_432 / 1e6],
            "k--",
            label="published format: f16 and a row of logits (computed)",
        )
    llama = of(document, "llama")
    if llama:
        axis.plot(
            [row["tokens"] for row in llama],
            [row["bytes"] / 1e6 for row in llama],
            "x",
            color="black",
            markersize=5,
            label="llama.cpp's saved state (run)",
        )
    labels = ("tokens of the prompt", "MB")
    finish_graph(plot, figure, axis, labels, out / "bytes.svg")


def sources(plot, document, out):
    """Where the tokens of each prompt of a day came from, and how soon answers began."""
    days = sorted(of(document, "day"), key=lambda row: row["boards"])
    if not days:
        return
    figure, axes = plot.subplots(
        1, len(days), figsize=(3.6 * len(days), 3.2), sharey=True, squeeze=False
    )
    for axis, day in zip(axes[0], days):
        window = max(1, len(day["asks"]) // 8)
        turns = range(len(day["asks"]))
        bottom = [0.0] * len(day["asks"])
        for at, (source, label) in enumerate(
            (("own", "own slab"), ("peers", "peers"), ("computed", "computed"))
        ):
            shares = []
            for turn in turns:
                some = day["asks"][max(0, turn - window) : turn + window + 1]
                shares.append(
                    100 * sum(ask[source] for ask in some) / sum(ask["tokens"] for ask in some)
                )
            top = [low + share for low, share in zip(bottom, shares)]
            axis.fill_between(
                turns,
                bottom,
                top,
                facecolor=["#dddddd", "#999999", "white"][at],
                edgecolor="black",
                linewidth=0.6,
                hatch=["", "//", ""][at],
                label=label,
            )
            bottom = top
        axis.set_title(f"{day['boards']} boards", fontsize=9)
        axis.set_xlabel("prompt of the day")
    axes[0][0].set_ylabel("tokens, % (running mean)")
    axes[0][-1].legend(fontsize=7, loc="upper left", framealpha=1)
    finish(plot, figure, out / "sources.svg")

    figure, axis = plot.subplots(figsize=(6.5, 3.4))
    for at, day in enumerate(days):
        times = sorted(ask["ttft_ms"] / 1e3 for ask in day["asks"])
        axis.step(
            times,
            shares_of(times),
            where="post",
            color="black",
            linestyle=["-", "--", ":", "-."][at % 4],
            label=f"{day['boards']} boards",
        )
    costs = Pace(Path(__file__).parent / "zero2w.toml")
    alone = sorted(costs.miss_s(ask["tokens"]) for ask in days[-1]["asks"])
    axis.step(
        alone,
        shares_of(alone),
        where="post",
        color="#999999",
        label="computing all of it (by the pace)",
    )
    labels = ("TTFT, s", "prompts, %")
    finish_graph(plot, figure, axis, labels, out / "day.svg")


def meeting(plot, document, out):
    """Where computing and fetching meet, by rate: tokens computed of a prompt that a peer has."""
    figure, axes = plot.subplots(1, 2, figsize=(9, 3.4))
    costs = Pace(Path(__file__).parent / "zero2w.toml")
    rates = [2, 4, 8, 12, 20.9, 30, 40, 60, 100]
    for at, shots in enumerate((0, 5)):
        rows = of(document, "case", pace="zero2w", shots=shots, case=5)
        if not rows:
            continue
        shares = [row["figures"]["computed"] / row["tokens"] for row in rows]
        for axis, values in zip(axes, (shares, [ttft(row) for row in rows])):
            axis.plot(
                [row["rate"] for row in rows],
                values,
                MARKS[at],
                color="black",
                markerfacecolor=["white", "#888888"][at],
                markersize=5,
                label=f"N = {shots}",
            )
        tokens = int(middle(rows, lambda row: row["tokens"]))
        axes[1].plot(
            rates,
            [optimum_s(costs, tokens, tokens, rate * 1e6) for rate in rates],
            ["--", "-"][at],
            color="black",
            label=f"two-ended optimum of {tokens} tokens (computed)",
        )
    for axis, label in zip(axes, ("share of the prompt computed", "TTFT, s")):
        axis.set_xlabel("link, Mbit/s")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, frameon=False)
        bare(axis)
    finish(plot, figure, out / "meeting.svg")


def draw(document, out):
    """Draws all pictures, if matplotlib is installed."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("no pictures: matplotlib is not installed (pip install matplotlib)", file=sys.stderr)
        return
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "potluck", "svg.fonttype": "none", "font.family": "sans-serif"}
    )
    from matplotlib import pyplot

    for picture in (bars, matched, moved, sources, meeting):
        picture(pyplot, document, out)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))

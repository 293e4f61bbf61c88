#!/usr/bin/env python3
"""Boots the image in QEMU and checks its promises over the serial line. Python's standard library only.

  tests/image/run.py short               the board's binary with the image's scripts on Debian's kernel (chapters.py)
  tests/image/run.py full IMAGE          sdcard.img itself
  tests/image/run.py powercuts N         N power cuts (powercuts.py), on the short form, or on IMAGE if one follows

Options: --binary FILE (target/firmware/potluck), --work DIR (target/image-test), --seed N, --only CHAPTER[,CHAPTER].
TIMEOUT_FACTOR=3 in the environment makes every timeout three times as long, for a busy machine.
"""

import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import chapters  # noqa: E402
import machine  # noqa: E402
import powercuts  # noqa: E402
from guest import Failed  # noqa: E402


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("form", choices=("short", "full", "powercuts"))
    parser.add_argument("rest", nargs="*")
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(machine.ROOT, "target")
    parser.add_argument(
        "--binary",
        default=os.environ.get("POTLUCK_BIN") or os.path.join(target, "firmware/potluck"),
    )
    parser.add_argument("--work", default=os.path.join(target, "image-test"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    options.work = os.path.abspath(options.work)
    try:
        return attempt(options)
    except Failed as failure:
        print(f"image-test: {failure}", file=sys.stderr)
        return 1


def attempt(options):
    """Runs the chapters that the options name; returns the exit status."""
    machine.check_tools()
    begun = time.monotonic()
    image = options.rest[0] if options.form == "full" and options.rest else None
    if options.form == "powercuts" and len(options.rest) > 1:
        image = options.rest[1]
    if options.form == "full" and not image:
        raise Failed("full needs an image: run make image, then tests/image/run.py full IMAGE")
    packages = os.path.join(options.work, "debian")
    if image:
        it = machine.Full(os.path.join(options.work, "full"), image, packages)
    else:
        if not os.path.exists(options.binary):
            raise Failed(
                f"no {options.binary}: run make firmware, or name another with POTLUCK_BIN"
            )
        it = machine.Short(os.path.join(options.work, "short"), options.binary, packages)
    if options.form == "powercuts":
        cuts = int(options.rest[0]) if options.rest else 100
        print(
            json.dumps(
                powercuts.run(it, cuts, options.seed, lambda line: print(line, flush=True)),
                indent=1,
            )
        )
        return 0
    unknown = set(filter(None, options.only.split(","))) - {
        chapter.__name__ for chapter in it.chapters()
    }
    if unknown:
        raise Failed(
            f"no chapter {', '.join(sorted(unknown))}: there are {', '.join(chapter.__name__ for chapter in it.chapters())}"
        )
    failed = 0
    for chapter in it.chapters():
        if options.only and chapter.__name__ not in options.only.split(","):
            continue
        figures, start = {}, time.monotonic()
        try:
            chapter(it, figures)
            verdict = "ok  "
        except Failed as failure:
            failed += 1
            verdict = "FAIL"
            figures["failure"] = str(failure)
        print(
            f"{verdict}  {chapter.__name__}: {chapter.__doc__.splitlines()[0]} ({time.monotonic() - start:.0f} s)"
        )
        for name, value in figures.items():
            print(f"        {name}: {value}")
        sys.stdout.flush()
    print(
        f"image-test: {'all passed' if not failed else f'{failed} failed'} in {time.monotonic() - begun:.0f} s"
        f"; root file system {it.root_bytes / 1e6:.1f} MB with potluck and the demo model"
    )
    for what in it.left_out:
        print(f"not covered: {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

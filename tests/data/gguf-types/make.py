#!/usr/bin/env python3
"""Writes TYPE.bytes and TYPE.values beside this file: rows of every GGUF type that potluck reads, and what PyPI's gguf 0.19 makes of
them in f32. Random bytes with sane scales, random bytes with any scale (subnormal, negative, infinite, NaN), and uniform bytes, which
hold every extreme of codes and scales. Needs gguf and numpy; the same bytes on every machine."""

import pathlib
import numpy as np
from gguf import GGMLQuantizationType, GGML_QUANT_SIZES, quants

HERE = pathlib.Path(__file__).parent
# Where a unit has its halves.
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
    "F16": [],
    "BF16": [],
}
ODD = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x7C00, 0x7E00]


def halves(unit, at, values):
    for place, value in zip(at, values):
        unit[place : place + 2] = np.frombuffer(np.uint16(value).tobytes(), np.uint8)


def units(name, size, random):
    at = HALVES[name]
    if not at:
        return [random.integers(0, 256, size, dtype=np.uint8) for _ in range(512)]
    made = []
    for _ in range(4 if size > 36 else 24):
        unit = random.integers(0, 256, size, dtype=np.uint8)
        halves(unit, at, random.normal(0, 0.02, len(at)).astype(np.float16).view(np.uint16))
        made.append(unit)
    for n in range(4 if size > 36 else 16):
        unit = random.integers(0, 256, size, dtype=np.uint8)
        halves(unit, at, [ODD[n % len(ODD)], ODD[(n * 3 + 1) % 6]])
        made.append(unit)
    for byte in (0x00, 0xFF, 0x80, 0x7F, 0x0F, 0xF0):
        unit = np.full(size, byte, np.uint8)
        halves(unit, at, [0x3C00, 0xC000])
        made.append(unit)
    return made


for name in HALVES:
    kind = GGMLQuantizationType[name]
    size = GGML_QUANT_SIZES[kind][1]
    stored = np.concatenate(units(name, size, np.random.default_rng(1)))
    with np.errstate(all="ignore"):
        values = quants.dequantize(stored.view(np.float16) if name == "F16" else stored, kind)
    (HERE / f"{name.lower()}.bytes").write_bytes(stored.tobytes())
    (HERE / f"{name.lower()}.values").write_bytes(values.astype("<f4").tobytes())

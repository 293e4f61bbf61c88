#!/usr/bin/env python3
"""Trains the demo model. If it is stopped, it resumes from its last checkpoint with exactly the same batches.

    train.py TEXT TOKENIZER_DIR OUT [--steps N] [--threads N]

Prints a line every 10 steps (step, tokens, loss per token, learning rate, tokens per second, time left) and appends it to
OUT/loss.csv; saves OUT/checkpoint.pt every 100 steps and, at the end, OUT/model.safetensors and OUT/config.json for Hugging Face transformers.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn import functional as F

from model import Gemma3, Shape

SEED = 1
# The share of each kind of text, in tokens.
MIX = {
    "mmlu": 0.30,
    "mmlu turns": 0.08,
    "turns": 0.24,
    "words": 0.12,
    "postgresql": 0.09,
    "sqlite": 0.08,
    "rust": 0.05,
    "devil": 0.02,
    "about": 0.02,
}
# (share of the steps, sequences, length): short contexts first, then those of real prompts.
PHASES = [(0.62, 32, 256), (0.26, 16, 512), (0.12, 4, 2048)]
# The most characters used of each kind: more than are drawn in the whole run.
MOST = 16_000_000
PEAK, FLOOR, WARM_UP = 3e-3, 1e-4, 100


def encoded(text, tokenizer, cache):
    """Every kind's documents as one row of tokens, with a weight for each token; and where documents begin."""
    if not cache.exists():
        rows = {}
        documents, room = [], dict.fromkeys(MIX, MOST)
        for line in (text / "train.jsonl").open(encoding="utf-8"):
            document = json.loads(line)
            if room[document["kind"]] > 0:
                room[document["kind"]] -= sum(len(piece) for piece, _ in document["parts"])
                documents.append(document)
        for start in range(0, len(documents), 5000):
            part = documents[start : start + 5000]
            texts = [piece for document in part for piece, _ in document["parts"]]
            ids = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
            for document in part:
                tokens, weights, starts = rows.setdefault(document["kind"], ([], [], []))
                starts.append(len(tokens))
                tokens.append(2)
                weights.append(0)
                for _, weight in document["parts"]:
                    piece = next(ids).ids
                    tokens += piece
                    weights += [weight] * len(piece)
        arrays = {}
        for kind, (tokens, weights, starts) in rows.items():
            arrays |= {
                f"{kind}/tokens": np.array(tokens, np.uint16),
                f"{kind}/weights": np.array(weights, np.float16),
                f"{kind}/starts": np.array(starts, np.uint32),
            }
        np.savez(cache, **arrays)
    with np.load(cache) as file:
        return {
            kind: tuple(file[f"{kind}/{part}"] for part in ("tokens", "weights", "starts"))
            for kind in MIX
        }


def batch(data, step, sequences, length):
    """The batch of a step, which depends only on the seed and the step. Documents are read from their beginning."""
    rng = np.random.default_rng([SEED, step])
    kinds, shares = list(MIX), np.array(list(MIX.values()))
    tokens, weights = (
        np.zeros((sequences, length + 1), np.int64),
        np.zeros((sequences, length + 1), np.float32),
    )
    for row in range(sequences):
        at = 0
        while at < length + 1:
            lengths = np.array([len(data[kind][0]) / len(data[kind][2]) for kind in kinds])
            kind = kinds[rng.choice(len(kinds), p=shares / lengths / (shares / lengths).sum())]
            all_tokens, all_weights, starts = data[kind]
            which = rng.integers(len(starts))
            end = starts[which + 1] if which + 1 < len(starts) else len(all_tokens)
            size = min(int(end - starts[which]), length + 1 - at)
            tokens[row, at : at + size] = all_tokens[starts[which] : starts[which] + size]
            weights[row, at : at + size] = all_weights[starts[which] : starts[which] + size]
            at += size
    return torch.from_numpy(tokens), torch.from_numpy(weights)


def rate(step, steps):
    if step < WARM_UP:
        return PEAK * (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


def phase(step, steps):
    share = 0
    for part, sequences, length in PHASES:
        share += part
        if step < share * steps:
            break
    return sequences, length


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--until", type=int, help="stop after this step, to resume later")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="faster if the processor multiplies bfloat16, ten times slower otherwise",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    data = encoded(options.text, tokenizer, options.out / "tokens.npz")
    shape = Shape(vocab_size=tokenizer.get_vocab_size())
    model = Gemma3(shape)
    wide = [p for p in model.parameters() if p.dim() > 1]
    narrow = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": wide, "weight_decay": 0.1}, {"params": narrow, "weight_decay": 0.0}],
        lr=PEAK,
        betas=(0.9, 0.95),
        fused=True,
    )
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    first, checkpoint = 0, options.out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
        print(f"resumes at step {first}", flush=True)
    began, seen, losses = time.time(), 0, []
    until = options.until or options.steps
    for step in range(first, until):
        sequences, length = phase(step, options.steps)
        tokens, weights = batch(data, step, sequences, length)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, options.steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            logits = model(tokens[:, :-1])
        loss = F.cross_entropy(
            logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none"
        )
        loss = (loss * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seen += sequences * length
        if (step + 1) % 10 == 0:
            speed = seen / (time.time() - began)
            left = (until - step - 1) * sequences * length / speed
            row = [
                step + 1,
                (step + 1) * 8192,
                round(sum(losses) / len(losses), 4),
                f"{rate(step, options.steps):.2e}",
                round(speed),
            ]
            print(
                "step {} tokens {} loss {} rate {} tokens/s {}".format(*row),
                f"left {left / 60:.0f} min",
                flush=True,
            )
            with (options.out / "loss.csv").open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(row)
            losses = []
        if (step + 1) % 100 == 0 or step + 1 == until:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                },
                checkpoint,
            )
            save_file(
                {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()},
                options.out / "model.safetensors",
                {"format": "pt"},
            )
            shape.save_config(options.out / "config.json")


if __name__ == "__main__":
    main()

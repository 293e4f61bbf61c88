#!/usr/bin/env python3
"""Writes what Hugging Face transformers computes with the demo model, as a reference for potluck.

    golden.py TEXT DIR   a trained directory: DIR/golden.safetensors, for `potluck verify`
    golden.py            the published GGUF: model/golden.json, for the tests

golden.safetensors holds ids_i, logits_i (every position) and greedy_i (24 tokens); golden.json the ids, the greedy tokens and the
eight largest logits after the ids. The longest sequence is eight times the window of the sliding layers.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

MODEL = Path(__file__).resolve().parent / "model"
# Questions that were not in the training text.
QUESTIONS = Path(__file__).resolve().parents[2] / "tests/data/mmlu/test/astronomy_test.csv"
LENGTHS = [1, 17, 64, 129, 300, 1024]
GREEDY = 24


def load(folder, **how):
    """The model in `folder`, in f32. A GGUF lacks the scale of queries, for which transformers would use 256 instead of the head's
    width; it comes from config.json."""
    config = Gemma3TextConfig.from_pretrained(folder)
    return Gemma3ForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager", **how
    ).eval()


def sequences(folder, text):
    """Pieces of `text` of every length, each after <bos>."""
    ids = (
        Tokenizer.from_file(str(folder / "tokenizer.json"))
        .encode(text, add_special_tokens=False)
        .ids
    )
    start = 0
    for length in LENGTHS:
        yield [2] + ids[start : start + length]
        start += length


def golden(model, sequence):
    """The greedy continuation of a sequence, and the logits after each token of both."""
    given = torch.tensor([sequence])
    with torch.no_grad():
        whole = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=GREEDY,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        logits = model(input_ids=whole, use_cache=False).logits[0].float().numpy()
    return whole[0, len(sequence) :].tolist(), logits


def save(path, found):
    """Writes golden.safetensors from (sequence, greedy, logits)."""
    out = {}
    for number, (sequence, greedy, logits) in enumerate(found):
        out |= {
            f"ids_{number}": np.array(sequence, np.int32),
            f"logits_{number}": logits[: len(sequence)].copy(),
            f"greedy_{number}": np.array(greedy, np.int32),
        }
    save_file(out, path)


def main():
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        text, folder = Path(sys.argv[1]), Path(sys.argv[2])
        model = load(folder)
        pieces = sequences(folder, (text / "heldout.txt").read_text("utf-8"))
        save(folder / "golden.safetensors", [(piece, *golden(model, piece)) for piece in pieces])
        return
    model, out = load(MODEL, gguf_file="potluck-demo.gguf"), []
    for piece in sequences(MODEL, QUESTIONS.read_text("utf-8")):
        greedy, logits = golden(model, piece)
        last = logits[len(piece) - 1]
        top = np.argsort(-last)[:8]
        out.append(
            {
                "ids": piece,
                "greedy": greedy,
                "top": [[int(at), round(float(last[at]), 5)] for at in top],
            }
        )
    (MODEL / "golden.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()

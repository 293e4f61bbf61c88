#!/usr/bin/env python3
"""What Hugging Face transformers computes with a trained directory on held-out text, for `potluck verify`.

    golden.py TEXT DIR

Writes DIR/golden.safetensors: ids_i, logits_i (every position), greedy_i (24 tokens). The longest sequence passes the window of
the sliding layers eight times.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import Gemma3ForCausalLM

LENGTHS = [1, 17, 64, 129, 300, 1024]
GREEDY = 24


def main():
    text, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    model = Gemma3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode((text / "heldout.txt").read_text("utf-8"), add_special_tokens=False).ids
    out, start = {}, 0
    for number, length in enumerate(LENGTHS):
        sequence = [2] + ids[start : start + length]
        start += length
        given = torch.tensor([sequence])
        with torch.no_grad():
            logits = model(input_ids=given, use_cache=False).logits[0].float()
            greedy = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=GREEDY, do_sample=False,
                                    eos_token_id=None, pad_token_id=0)[0, len(sequence) :]
        out |= {f"ids_{number}": np.array(sequence, np.int32), f"logits_{number}": logits.numpy(),
                f"greedy_{number}": greedy.numpy().astype(np.int32)}
        print(f"{len(sequence)} tokens: {tokenizer.decode(greedy.tolist())!r}")
    save_file(out, folder / "golden.safetensors")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes tokenizer.json: a BPE vocabulary in exactly the form of Gemma's (spaces become ▁; unknown bytes have their own tokens).

tokenizer.py TEXT OUT
"""

import json
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SIZE = 2048
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]


def main():
    text, out = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    # While merges are learned, no piece may cross a word boundary; the finished tokenizer splits as
    # Gemma's does, which has the same effect.
    words = Regex(r"▁?\p{L}+|▁?\p{N}|▁+|\n+|▁?[^\p{L}\p{N}▁\n]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(words, "isolated")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=SPECIAL + bytes_, limit_alphabet=160, max_token_length=16
    )
    tokenizer.train_from_iterator(sample(text), trainer)
    made = json.loads(tokenizer.to_str())
    made["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    unmark = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    made["decoder"] = {
        "type": "Sequence",
        "decoders": [unmark, {"type": "ByteFallback"}, {"type": "Fuse"}],
    }
    bos = SPECIAL.index("<bos>")
    made["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<bos>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [
            {"SpecialToken": {"id": "<bos>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<bos>", "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [bos], "tokens": ["<bos>"]}},
    }
    made["added_tokens"] = [token for token in made["added_tokens"] if token["content"] in SPECIAL]
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(
        json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    (out / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<bos>",
                "eos_token": "<eos>",
                "pad_token": "<pad>",
                "unk_token": "<unk>",
                "clean_up_tokenization_spaces": False,
            },
            indent=1,
        )
        + "\n"
    )
    check = Tokenizer.from_file(str(out / "tokenizer.json"))
    line = "What does 'vitrectomy' mean?  Zürich → 42"
    ids = check.encode(line, add_special_tokens=False).ids
    assert check.decode(ids, skip_special_tokens=False) == line, check.decode(ids)
    print(f"{check.get_vocab_size()} tokens; {check.encode(line).tokens}")


def sample(text):
    """Every fourth document of words and turns, of which there are many; all other documents."""
    for at, line in enumerate((text / "train.jsonl").open(encoding="utf-8")):
        document = json.loads(line)
        if document["kind"] in ("words", "turns") and at % 4:
            continue
        body = "".join(part for part, _ in document["parts"])
        for special in SPECIAL:
            body = body.replace(special, "\n")
        yield body


if __name__ == "__main__":
    main()

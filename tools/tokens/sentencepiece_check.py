#!/usr/bin/env python3
"""Runs Gemma's reference tokenizer, Google's SentencePiece with the pieces of a GGUF, on the texts that `make tokens-check` wrote.

    sentencepiece_check.py MODEL.gguf target/tokens/texts.jsonl

Needs `pip install gguf sentencepiece protobuf`. Gemma's own tokenizer.model is a SentencePiece model of type BPE with byte fallback,
without normalisation and without a blank before a text. A GGUF has its pieces, scores and types, so the model can be reconstructed.
Prints the texts that SentencePiece splits differently from potluck, and fails if there are any.
"""

import json
import sys

import sentencepiece
from gguf import GGUFReader
from sentencepiece import sentencepiece_model_pb2 as proto

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
# Tokens that the published GGUF marks as text, but that potluck treats as control tokens, by their
# names.
CONTROL_NAMES = {"[multimodal]", "<start_of_image>", "<end_of_image>"}
SHOWN = 200


def processor(path):
    """A SentencePiece model with the pieces of a GGUF."""
    fields = GGUFReader(path).fields
    tokens, scores, types = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type")
    )
    model = proto.ModelProto()
    for text, score, kind in zip(tokens, scores, types):
        if text == "<unk>":
            kind = UNKNOWN
        elif text in CONTROL_NAMES:
            kind = CONTROL
        model.pieces.add(piece=text.replace(" ", "▁"), score=score, type=kind)
    trainer = model.trainer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = (
        proto.TrainerSpec.BPE,
        True,
        len(tokens),
    )
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = (
        tokens.index(f"<{name}>") for name in ("pad", "eos", "bos", "unk")
    )
    normalizer = model.normalizer_spec
    normalizer.name, normalizer.add_dummy_prefix = "identity", False
    normalizer.remove_extra_whitespaces, normalizer.escape_whitespaces = False, True
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def main(model, texts):
    reference = processor(model)
    compared = different = known = known_different = 0
    with open(texts, encoding="utf-8") as lines:
        for line in lines:
            line = json.loads(line)
            ids = reference.encode(line["text"])
            if line.get("known"):
                known += 1
                known_different += ids != line["ids"]
                continue
            compared += 1
            if ids != line["ids"]:
                different += 1
                if different <= SHOWN:
                    print(
                        json.dumps(
                            {"text": line["text"], "ids": line["ids"], "sentencepiece": ids},
                            ensure_ascii=False,
                        )
                    )
    print(
        f"{compared} texts, of which SentencePiece makes other tokens of {different}",
        file=sys.stderr,
    )
    print(
        f"{known} texts that others are known to cut otherwise, of which it does {known_different}",
        file=sys.stderr,
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

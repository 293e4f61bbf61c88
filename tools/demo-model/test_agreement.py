#!/usr/bin/env python3
"""Compares Hugging Face transformers and llama.cpp with potluck, on the published file of the demo model.

    test_agreement.py

A comparison whose requirements are not installed is skipped by name: the first needs torch, transformers, gguf and safetensors; the
second the program of tools/bench-peer, built by `make bench-peer` or named by BENCH_PEER. POTLUCK names potluck's binary
(target/debug/potluck).
"""

import importlib.util
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
POTLUCK = Path(os.environ.get("POTLUCK", TARGET / "debug/potluck"))
PEER = Path(os.environ.get("BENCH_PEER", TARGET / "bench-peer/release/bench-peer"))
MODEL = ROOT / "tools/demo-model/model"

missing = [
    name
    for name in ("torch", "transformers", "accelerate", "gguf", "safetensors", "tokenizers")
    if importlib.util.find_spec(name) is None
]


@unittest.skipIf(missing, f"not installed: {', '.join(missing)}")
@unittest.skipUnless(POTLUCK.exists(), "no target/debug/potluck: make build")
class Agreement(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """The GGUF as transformers reads it, saved as its own directory, with its logits of held-out questions."""
        import golden
        from safetensors.torch import save_file

        golden.torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.dir = Path(folder.name)
        model = golden.load(MODEL, gguf_file="potluck-demo.gguf")
        cls.config = model.config
        tensors = {
            name: tensor.contiguous()
            for name, tensor in model.state_dict().items()
            if name != "lm_head.weight"
        }
        save_file(tensors, cls.dir / "model.safetensors", {"format": "pt"})
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (cls.dir / name).write_bytes((MODEL / name).read_bytes())
        cls.golden = [
            (piece, *golden.golden(model, piece))
            for piece in golden.sequences(MODEL, golden.QUESTIONS.read_text("utf-8"))
        ]
        golden.save(cls.dir / "golden.safetensors", cls.golden)

    def test_transformers_sees_the_same_model(self):
        """Logits agree to 2e-4, greedy text token for token, and the sizes are those that were trained."""
        trained = json.loads((MODEL / "config.json").read_text())
        for key in (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "head_dim",
            "sliding_window",
            "layer_types",
            "vocab_size",
        ):
            self.assertEqual(getattr(self.config, key), trained[key], key)
        run = subprocess.run(
            [POTLUCK, "verify", "--json", self.dir], capture_output=True, text=True
        )
        self.assertTrue(run.stdout, run.stderr)
        report = json.loads(run.stdout)
        print(
            f"\ntransformers against potluck, f32 arithmetic: {report['float']}; int8: {report['int8']}"
        )
        self.assertEqual(report["failures"], [])
        self.assertEqual(report["float"]["greedy_agreeing"], report["float"]["greedy_tokens"])

    def test_what_transformers_read_converts_back_to_the_same_file(self):
        """The round trip is lossless: every tensor's bytes are those of the published file."""
        from gguf import GGUFReader

        back = self.dir / "back.gguf"
        subprocess.run(
            [POTLUCK, "convert", self.dir, back, "--type", "q8_0"], check=True, capture_output=True
        )
        published, again = (
            {tensor.name: tensor for tensor in GGUFReader(path).tensors}
            for path in (MODEL / "potluck-demo.gguf", back)
        )
        self.assertEqual(published.keys(), again.keys())
        for name, tensor in published.items():
            self.assertEqual(tensor.data.tobytes(), again[name].data.tobytes(), name)

    @unittest.skipUnless(PEER.exists(), "no llama.cpp: make bench-peer builds it")
    def test_llama_cpp_says_the_same(self):
        """From the published file: llama.cpp rounds activations to int8 and keeps KV in f16, so its logits differ a little."""
        import numpy

        kl, same, positions, greedy_same, greedy_all = 0.0, 0, 0, 0, 0
        for sequence, greedy, right in self.golden:
            tokens = ",".join(map(str, sequence + greedy))
            out = self.dir / "peer.bin"
            subprocess.run(
                [
                    PEER,
                    "logits",
                    "--model",
                    MODEL / "potluck-demo.gguf",
                    "--tokens",
                    tokens,
                    "--out",
                    out,
                ],
                check=True,
            )
            logits = numpy.fromfile(out, "<f4").reshape(right.shape)
            p, q = (
                x - x.max(-1, keepdims=True) for x in (right.astype(float), logits.astype(float))
            )
            p, q = (x - numpy.log(numpy.exp(x).sum(-1, keepdims=True)) for x in (p, q))
            kl += (numpy.exp(p) * (p - q)).sum()
            agreed = right.argmax(-1) == logits.argmax(-1)
            same += agreed.sum()
            positions += len(agreed)
            greedy_same += agreed[len(sequence) - 1 : -1].sum()
            greedy_all += len(greedy)
        print(
            f"\nllama.cpp against transformers: mean KL {kl / positions:.2e}, same likeliest token {same}/{positions}, "
            f"greedy {greedy_same}/{greedy_all}"
        )
        self.assertLess(kl / positions, 2e-3)
        self.assertGreater(same / positions, 0.97)


if __name__ == "__main__":
    unittest.main()

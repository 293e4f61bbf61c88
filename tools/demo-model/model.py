"""Gemma 3 in PyTorch, with the names and shapes of Hugging Face transformers, so that the weights load there unchanged."""

import json
import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Shape:
    vocab_size: int = 2048
    hidden_size: int = 192
    intermediate_size: int = 576
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 1
    head_dim: int = 32
    sliding_window: int = 128
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6

    def layer_types(self):
        return [
            "full_attention" if (layer + 1) % 6 == 0 else "sliding_attention"
            for layer in range(self.num_hidden_layers)
        ]

    def config(self):
        """config.json as transformers reads it."""
        return asdict(self) | {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "dtype": "float32",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "hidden_activation": "gelu_pytorch_tanh",
            "initializer_range": 0.02,
            "layer_types": self.layer_types(),
            "pad_token_id": 0,
            "eos_token_id": [1, 5],
            "bos_token_id": 2,
            "query_pre_attn_scalar": self.head_dim,
            "rope_parameters": {
                "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
            },
            "tie_word_embeddings": True,
            "use_bidirectional_attention": False,
            "use_cache": True,
        }

    def save_config(self, path):
        path.write_text(json.dumps(self.config(), indent=1) + "\n")


class Norm(nn.Module):
    """RMSNorm with (1 + w)."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(size)), eps

    def forward(self, x):
        return F.rms_norm(x.float(), x.shape[-1:], 1 + self.weight, self.eps)


def rope(length, dim, base):
    """Cosines and sines, [length, dim]."""
    angles = torch.outer(
        torch.arange(length).float(), base ** (-torch.arange(0, dim, 2).float() / dim)
    )
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, self.kv, self.dim = (
            shape.num_attention_heads,
            shape.num_key_value_heads,
            shape.head_dim,
        )
        self.q_proj = nn.Linear(shape.hidden_size, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, self.kv * self.dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, self.kv * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, shape.hidden_size, bias=False)
        self.q_norm, self.k_norm = (
            Norm(self.dim, shape.rms_norm_eps),
            Norm(self.dim, shape.rms_norm_eps),
        )

    def forward(self, x, turn, mask):
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv, self.dim).transpose(1, 2)
        q, k = rotate(self.q_norm(q), *turn).to(v.dtype), rotate(self.k_norm(k), *turn).to(v.dtype)
        k, v = (part.repeat_interleave(self.heads // self.kv, 1) for part in (k, v))
        scale = self.dim**-0.5
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale
        )
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.self_attn, self.mlp = Attention(shape), Mlp(shape)
        norm = lambda: Norm(shape.hidden_size, shape.rms_norm_eps)
        self.input_layernorm, self.post_attention_layernorm = norm(), norm()
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = norm(), norm()

    def forward(self, x, turn, mask):
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), turn, mask))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class Gemma3(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.normal_(self.embed_tokens.weight, std=0.05)

    def forward(self, tokens):
        """Logits [batch, length, vocab] of tokens [batch, length]."""
        shape, length = self.shape, tokens.shape[1]
        x = self.embed_tokens(tokens) * math.sqrt(shape.hidden_size)
        turns = {
            "full_attention": rope(length, shape.head_dim, 1e6),
            "sliding_attention": rope(length, shape.head_dim, 1e4),
        }
        at = torch.arange(length)
        ago = at[:, None] - at[None, :]
        near = (ago >= 0) & (ago < shape.sliding_window)
        near = torch.zeros(length, length).masked_fill(~near, float("-inf"))
        for kind, layer in zip(shape.layer_types(), self.layers):
            mask = (
                near.to(
                    torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
                )
                if kind == "sliding_attention"
                else None
            )
            x = layer(x, turns[kind], mask)
        return F.linear(self.norm(x), self.embed_tokens.weight)

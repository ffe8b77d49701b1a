"""Toys that answer with embeddings: ``tiny_transformer.py``'s models with pooling, and a BERT with RoPE.

float64, from the papers; shares no code with ``ggufrope`` or llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gguf_builder import BOOL, F32, STR, U32, build, entry
from tiny_transformer import TinyModel

__all__ = ["TinyBert", "TinyRanker", "Unmasked"]


@dataclass(frozen=True)
class Unmasked(TinyModel):
    """Every token attends to all others."""

    def mask(self, n: int) -> np.ndarray:
        return np.ones((n, n), dtype=bool)


@dataclass(frozen=True)
class TinyBert(Unmasked):
    """``nomic-bert``: norms behind each part instead of before it, and no KV cache."""

    arch: str = "nomic-bert"

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        random = np.random.default_rng(11)
        kv, n = self.n_head_kv * self.head_dim, self.n_embd
        shapes: dict[str, tuple[int, ...]] = {"token_embd": (self.n_vocab, n), "token_types": (1, n)}
        norms = ["token_embd_norm"]
        for i in range(self.n_layer):
            shapes |= {f"blk.{i}.attn_{x}": (m, n) for x, m in zip("qkv", (n, kv, kv), strict=True)}
            shapes |= {f"blk.{i}.ffn_{x}": (self.n_ff, n) for x in ("gate", "up")}
            shapes |= {f"blk.{i}.attn_output": (n, n), f"blk.{i}.ffn_down": (n, self.n_ff)}
            norms += [f"blk.{i}.attn_output_norm", f"blk.{i}.layer_output_norm"]
        found = {f"{x}.weight": random.standard_normal(s) * 1.5 / np.sqrt(s[1]) for x, s in shapes.items()}
        found |= {f"{x}.weight": 1 + 0.1 * random.standard_normal(n) for x in norms}
        found |= {f"{x}.bias": 0.1 * random.standard_normal(n) for x in norms}
        return {name: value.astype(np.float32) for name, value in found.items()}

    def file(self, extra: Sequence[bytes] = (), tensors: Sequence[tuple[str, np.ndarray]] = (), **_: object) -> bytes:
        numbers = {
            "context_length": self.n_ctx, "embedding_length": self.n_embd, "block_count": self.n_layer,
            "feed_forward_length": self.n_ff, "attention.head_count": self.n_head,
            "attention.head_count_kv": self.n_head_kv, "vocab_size": self.n_vocab,
        }  # fmt: skip
        entries = [
            entry("general.architecture", STR, self.arch),
            *(entry(f"{self.arch}.{name}", U32, number) for name, number in numbers.items()),
            entry(f"{self.arch}.attention.layer_norm_epsilon", F32, 1e-5),
            entry(f"{self.arch}.attention.causal", BOOL, False),
            entry(f"{self.arch}.rope.freq_base", F32, self.freq_base),
            entry("tokenizer.ggml.model", STR, "no_vocab"),
            entry("tokenizer.ggml.token_type_count", U32, 1),
            *extra,
        ]
        return build(entries, [*self.weights.items(), *tensors])

    def normed(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * self.get(f"{name}.weight") + self.get(
            f"{name}.bias"
        )

    def states(
        self, tokens: list[int], ratios: np.ndarray | None = None, factors: np.ndarray | float = 1.0, scale: float = 1.0
    ) -> np.ndarray:
        ratios = np.ones((self.n_layer, self.n_head_kv)) if ratios is None else ratios
        x = self.normed(self.get("token_embd.weight")[tokens] + self.get("token_types.weight")[0], "token_embd_norm")
        for i in range(self.n_layer):
            rows = [np.broadcast_to(factors, (self.n_rot // 2,)) * ratio for ratio in ratios[i]]
            attended = self.linear(self.attention(x, i, rows, scale), f"blk.{i}.attn_output")
            x = self.normed(x + attended, f"blk.{i}.attn_output_norm")
            x = self.normed(x + self.feed_forward(x, i), f"blk.{i}.layer_output_norm")
        return x


@dataclass(frozen=True)
class TinyRanker(Unmasked):
    """``neo-bert``: Phi-3's projections without a mask or a KV cache, and a head that scores a text."""

    arch: str = "neo-bert"

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        random, n = np.random.default_rng(12), self.n_embd
        found = {name: value for name, value in super().weights.items() if name != "output.weight"}
        found["enc.output_norm.weight"] = found.pop("output_norm.weight")
        head = {"cls.weight": (n, n), "cls.bias": (n,), "cls.output.weight": (1, n), "cls.output.bias": (1,)}
        return found | {name: random.standard_normal(s).astype(np.float32) / 8 for name, s in head.items()}

    def get(self, name: str) -> np.ndarray:
        return super().get("enc.output_norm.weight" if name == "output_norm.weight" else name)

    def file(self, extra: Sequence[bytes] = (), tensors: Sequence[tuple[str, np.ndarray]] = (), **_: object) -> bytes:
        return super().file([entry("neo-bert.attention.causal", BOOL, False), *extra], tensors)

    def rank(self, states: np.ndarray) -> float:
        """The score of a text, from its first token."""
        return float(self.linear(np.tanh(self.linear(states[0], "cls")), "cls.output")[0])

"""Small random models that llama.cpp runs, with a float64 forward pass to compare it with.

Three architectures stand for what matters to RoPE: ``llama`` (neighbouring pairs), ``qwen2`` (pairs half a head apart,
biases, no frequency factors upstream) and ``phi3`` (half of each head rotated, one fused projection, long and short
factors). Queries are grouped: each KV head serves two query heads. The forward pass is written from the papers and
shares no code with ``ggufrope`` or llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gguf_builder import ARR, F32, I32, STR, U32, build, entry

__all__ = ["ARCHITECTURES", "TinyModel"]

ARCHITECTURES = ("llama", "qwen2", "phi3")
_EPS = 1e-5


@dataclass(frozen=True)
class TinyModel:
    """A random model; ``n_rot`` of ``head_dim`` dimensions rotate."""

    arch: str
    n_layer: int = 3
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 32
    n_ff: int = 128
    n_vocab: int = 64
    freq_base: float = 10000.0
    n_ctx: int = 256

    @property
    def n_embd(self) -> int:
        return self.n_head * self.head_dim

    @property
    def n_rot(self) -> int:
        return self.head_dim // 2 if self.arch == "phi3" else self.head_dim

    @property
    def fused(self) -> bool:
        """Q, K and V come from one product, and gate and up too."""
        return self.arch in {"phi3", "neo-bert"}

    @property
    def neighbours(self) -> bool:
        """Pairs are neighbouring dimensions, not those half a head apart."""
        return self.arch in {"llama", "neo-bert"}

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """Weights by GGUF name, ``[out, in]``, float32."""
        rng = np.random.default_rng(len(self.arch))
        kv, norms = self.n_head_kv * self.head_dim, ["output_norm"]
        shapes = {"token_embd": (self.n_vocab, self.n_embd), "output": (self.n_vocab, self.n_embd)}
        for i in range(self.n_layer):
            if self.fused:
                shapes[f"blk.{i}.attn_qkv"] = (self.n_embd + 2 * kv, self.n_embd)
                shapes[f"blk.{i}.ffn_up"] = (2 * self.n_ff, self.n_embd)
            else:
                shapes |= {
                    f"blk.{i}.attn_{x}": (n, self.n_embd) for x, n in zip("qkv", (self.n_embd, kv, kv), strict=True)
                }
                shapes |= {f"blk.{i}.ffn_{x}": (self.n_ff, self.n_embd) for x in ("gate", "up")}
            shapes[f"blk.{i}.attn_output"] = (self.n_embd, self.n_embd)
            shapes[f"blk.{i}.ffn_down"] = (self.n_embd, self.n_ff)
            norms += [f"blk.{i}.attn_norm", f"blk.{i}.ffn_norm"]
        weights = {f"{name}.weight": rng.standard_normal(n) * 1.5 / np.sqrt(n[1]) for name, n in shapes.items()}
        weights |= {f"{name}.weight": 1 + 0.1 * rng.standard_normal(self.n_embd) for name in norms}
        if self.arch in {"qwen2", "qwen2vl"}:
            biased = [name for name in shapes if name[-6:] in {"attn_q", "attn_k", "attn_v"}]
            weights |= {f"{name}.bias": 0.3 * rng.standard_normal(shapes[name][0]) for name in biased}
        return {name: value.astype(np.float32) for name, value in weights.items()}

    def file(
        self,
        extra: Sequence[bytes] = (),
        tensors: Sequence[tuple[str, np.ndarray]] = (),
        *,
        words: bool = False,
        tail: str = "",
    ) -> bytes:
        """The GGUF, with more entries and tensors if given.

        With ``words`` it has a vocabulary, as the server needs: numbers, from 10 on with ``tail`` behind each.
        """
        vocabulary = [entry("tokenizer.ggml.model", STR, "no_vocab")]
        if words:
            names = ["<unk>", "<s>", "</s>", *(f"▁{i}{tail if i > 9 else ''}" for i in range(3, self.n_vocab))]
            vocabulary = [
                entry("tokenizer.ggml.model", STR, "llama"),
                entry("tokenizer.ggml.tokens", ARR, names, STR),
                entry("tokenizer.ggml.scores", ARR, [-float(i) for i in range(self.n_vocab)], F32),
                entry("tokenizer.ggml.token_type", ARR, [2, 3, 3] + [1] * (self.n_vocab - 3), I32),
            ]
        numbers = {
            "context_length": self.n_ctx, "embedding_length": self.n_embd, "block_count": self.n_layer,
            "feed_forward_length": self.n_ff, "attention.head_count": self.n_head,
            "attention.head_count_kv": self.n_head_kv, "rope.dimension_count": self.n_rot, "vocab_size": self.n_vocab,
        }  # fmt: skip
        entries = [
            entry("general.architecture", STR, self.arch),
            *(entry(f"{self.arch}.{name}", U32, number) for name, number in numbers.items()),
            entry(f"{self.arch}.attention.layer_norm_rms_epsilon", F32, _EPS),
            entry(f"{self.arch}.rope.freq_base", F32, self.freq_base),
            *vocabulary,
            *extra,
        ]
        return build(entries, [*self.weights.items(), *tensors])

    def logits(
        self, tokens: list[int], ratios: np.ndarray | None = None, factors: np.ndarray | float = 1.0, scale: float = 1.0
    ) -> np.ndarray:
        """Logits ``[n, n_vocab]`` of a full prefill.

        Frequencies are divided by ``ratios`` ``[n_layer, n_head_kv]`` and ``factors`` ``[n_rot/2]``; the rotated
        dimensions of Q and K are multiplied by ``scale``.
        """
        return self.linear(self.states(tokens, ratios, factors, scale), "output")

    def states(
        self, tokens: list[int], ratios: np.ndarray | None = None, factors: np.ndarray | float = 1.0, scale: float = 1.0
    ) -> np.ndarray:
        """What the output is projected from, ``[n, n_embd]``; parameters as in ``logits``."""
        return self.through(self.get("token_embd.weight")[tokens], ratios, factors, scale)

    def through(
        self, x: np.ndarray, ratios: np.ndarray | None = None, factors: np.ndarray | float = 1.0, scale: float = 1.0
    ) -> np.ndarray:
        """``states`` of embeddings ``[n, n_embd]``."""
        ratios = np.ones((self.n_layer, self.n_head_kv)) if ratios is None else ratios
        for i in range(self.n_layer):
            rows = [np.broadcast_to(factors, (self.n_rot // 2,)) * ratio for ratio in ratios[i]]
            attended = self.attention(self.normed(x, f"blk.{i}.attn_norm"), i, rows, scale)
            x = x + self.linear(attended, f"blk.{i}.attn_output")
            x = x + self.feed_forward(self.normed(x, f"blk.{i}.ffn_norm"), i)
        return self.normed(x, "output_norm")

    def mask(self, n: int) -> np.ndarray:
        """Whether token i ``[i, :]`` attends to token j."""
        return np.tri(n, dtype=bool)

    def get(self, name: str) -> np.ndarray:
        return self.weights[name].astype(np.float64)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        y = x @ self.get(f"{name}.weight").T
        return y + self.get(f"{name}.bias") if f"{name}.bias" in self.weights else y

    def normed(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + _EPS) * self.get(f"{name}.weight")

    def feed_forward(self, x: np.ndarray, i: int) -> np.ndarray:
        up = self.linear(x, f"blk.{i}.ffn_up")
        gate, up = np.split(up, 2, axis=1) if self.fused else (self.linear(x, f"blk.{i}.ffn_gate"), up)
        return self.linear(up * gate / (1 + np.exp(-gate)), f"blk.{i}.ffn_down")

    def attention(self, x: np.ndarray, i: int, rows: list[np.ndarray], scale: float) -> np.ndarray:
        """Attention ``[n, heads * head_dim]`` of normed states ``x``; ``rows`` are the factors of each KV head."""
        n = len(x)
        q, k, v = self.project(x, i)
        out = np.empty((self.n_head, n, self.head_dim))
        group = self.n_head // self.n_head_kv
        for h in range(self.n_head):
            row = rows[h // group]
            score = self.rotate(q[h], row, scale) @ self.rotate(k[h // group], row, scale).T
            score = np.where(self.mask(n), score / np.sqrt(self.head_dim), -np.inf)
            weight = np.exp(score - score.max(-1, keepdims=True))
            out[h] = weight / weight.sum(-1, keepdims=True) @ v[h // group]
        return out.swapaxes(0, 1).reshape(n, -1)

    def project(self, x: np.ndarray, i: int) -> list[np.ndarray]:
        """Q, K and V of layer ``i``, each ``[heads, n, head_dim]``."""
        kv = self.n_head_kv * self.head_dim
        if self.fused:
            parts = np.split(self.linear(x, f"blk.{i}.attn_qkv"), [self.n_embd, self.n_embd + kv], axis=1)
        else:
            parts = [self.linear(x, f"blk.{i}.attn_{name}") for name in "qkv"]
        return [y.reshape(len(x), -1, self.head_dim).swapaxes(0, 1) for y in parts]

    def rotate(self, x: np.ndarray, row: np.ndarray, scale: float, positions: np.ndarray | None = None) -> np.ndarray:
        """``x`` is ``[n, head_dim]``: complex multiplication of the rotated pairs, the rest passes."""
        half = self.n_rot // 2
        positions = np.arange(len(x)) if positions is None else positions
        angle = positions[:, None] * self.freq_base ** (-np.arange(half) / half) / row
        first = slice(0, self.n_rot, 2) if self.neighbours else slice(0, half)
        second = slice(1, self.n_rot, 2) if self.neighbours else slice(half, self.n_rot)
        turned = (x[:, first] + 1j * x[:, second]) * np.exp(1j * angle) * scale
        out = x.copy()
        out[:, first], out[:, second] = turned.real, turned.imag
        return out

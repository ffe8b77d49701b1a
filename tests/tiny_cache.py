"""The decode of a length table that the runtime is compared with: keys are cached as projected and rotated when used.

So no key can disagree with a query: every step rotates all of them by the row that serves the step. Hidden states of
earlier tokens stay what they were. float64, and no code shared with ``ggufrope`` or llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tiny_transformer import TinyModel

__all__ = ["LengthTable", "Session"]


@dataclass(frozen=True)
class LengthTable:
    """``points`` ``[n]``, ``factors`` ``[n, n_rot/2]``, ``scales`` ``[n]``; row k is for lengths to ``points[k]``."""

    points: list[int]
    factors: np.ndarray
    scales: np.ndarray

    @classmethod
    def growing(cls, n_rot: int, points: list[int]) -> LengthTable:
        """The first row is plain RoPE; later ones slow down each pair differently and grow the attention scale."""
        pair = np.linspace(0, 1, n_rot // 2)
        factors = np.array([1 + 0.6 * k * pair**2 for k in range(len(points))], dtype=np.float32)
        return cls(points, factors, np.array([1 + 0.03 * k for k in range(len(points))], dtype=np.float32))

    def row(self, length: int) -> int:
        return next((k for k, point in enumerate(self.points) if length <= point), len(self.points) - 1)


@dataclass
class _Layer:
    k: np.ndarray
    v: np.ndarray


@dataclass
class Session:
    """One sequence. ``positions`` of what is cached may be changed between steps, as a K shift does."""

    model: TinyModel
    table: LengthTable
    ratios: np.ndarray | None = None
    row: int = 0
    positions: np.ndarray = field(default_factory=lambda: np.zeros(0))
    layers: list[_Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        none = np.zeros((self.model.n_head_kv, 0, self.model.head_dim))
        self.layers = [_Layer(none, none) for _ in range(self.model.n_layer)]

    def step(self, tokens: list[int], length: int = 0) -> np.ndarray:
        """Logits ``[n, n_vocab]`` of one batch; ``length`` is a hint, or what other sequences make necessary."""
        start = int(self.positions.max()) + 1 if len(self.positions) else 0
        new = np.arange(start, start + len(tokens))
        self.row = max(self.row, self.table.row(max(length, start + len(tokens))))
        self.positions = np.concatenate([self.positions, new])
        model = self.model
        x = model.get("token_embd.weight")[tokens]
        for i in range(model.n_layer):
            attended = self._attention(model.normed(x, f"blk.{i}.attn_norm"), i, new)
            x = x + model.linear(attended, f"blk.{i}.attn_output")
            x = x + model.feed_forward(model.normed(x, f"blk.{i}.ffn_norm"), i)
        return model.linear(model.normed(x, "output_norm"), "output")

    def shift(self, p0: int, p1: int, delta: int) -> None:
        """Drop what a negative ``delta`` would move past, as a context shift does, and move ``[p0, p1)``."""
        self._keep((self.positions < p0 + delta) | (self.positions >= p0))
        self.positions = np.where(
            (self.positions >= p0) & (self.positions < p1), self.positions + delta, self.positions
        )

    def drop(self, p0: int) -> None:
        """Forget positions from ``p0`` on."""
        self._keep(self.positions < p0)

    def _keep(self, kept: np.ndarray) -> None:
        self.layers = [_Layer(layer.k[:, kept], layer.v[:, kept]) for layer in self.layers]
        self.positions = self.positions[kept]

    def _attention(self, x: np.ndarray, i: int, new: np.ndarray) -> np.ndarray:
        model, layer, scale = self.model, self.layers[i], float(self.table.scales[self.row])
        q, k, v = model.project(x, i)
        layer.k, layer.v = np.concatenate([layer.k, k], axis=1), np.concatenate([layer.v, v], axis=1)
        visible = self.positions[None, :] <= new[:, None]
        group, out = model.n_head // model.n_head_kv, np.empty((model.n_head, len(x), model.head_dim))
        for h in range(model.n_head):
            ratio = 1.0 if self.ratios is None else self.ratios[i, h // group]  # of the head, or of each pair
            row = self.table.factors[self.row].astype(np.float64) * ratio
            keys = model.rotate(layer.k[h // group], row, scale, self.positions)
            score = model.rotate(q[h], row, scale, new) @ keys.T / np.sqrt(model.head_dim)
            weight = np.exp(np.where(visible, score, -np.inf) - score.max(-1, keepdims=True))
            out[h] = weight / weight.sum(-1, keepdims=True) @ layer.v[h // group]
        return out.swapaxes(0, 1).reshape(len(x), -1)

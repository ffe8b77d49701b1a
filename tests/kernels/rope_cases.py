"""The cases that every backend's rope kernels must pass: one set, against float64 numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ggml_rope import EPS, MODES, Ggml, Rope

__all__ = ["DEFAULT", "FUSED", "LARGE", "VARIANTS", "Shape", "cases", "check", "check_fused", "heads_alone", "inputs"]
__all__ += ["make"]

YARN = {
    "n_ctx_orig": 4096,
    "freq_scale": 0.25,
    "ext_factor": 1.0,
    "attn_factor": 0.9,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
VARIANTS = {
    "plain": {}, "yarn": YARN, "linear": {"freq_scale": 0.25}, "partial": {"n_dims": 24},
    "partial-yarn": {"n_dims": 24, **YARN}, "offset": {"n_dims": 24, "offset": 16}, "inplace": {"inplace": True},
    "backward": {"backward": True}, "backward-partial": {"backward": True, "n_dims": 24},
    "inplace-offset": {"inplace": True, "n_dims": 24, "offset": 16},
}  # fmt: skip
_PART_OF_A_HEAD = {name for name, options in VARIANTS.items() if "n_dims" in options}
EDGES = (0, 1, 2, 511, 512, 4095, 16384, 32767)


@dataclass(frozen=True, slots=True)
class Shape:
    """Heads, and at how many random positions besides ``EDGES``."""

    n_head: int = 8
    n_head_kv: int = 4
    head_dim: int = 64
    n_random: int = 0

    def rows(self) -> dict[str, int]:
        """Rows of factors by name; 0 for none."""
        return {"none": 0, "one": 1, "kv": self.n_head_kv, "head": self.n_head}

    def positions(self) -> np.ndarray:
        rng = np.random.default_rng(0)
        return np.concatenate([EDGES, rng.integers(0, 32768, self.n_random)])


DEFAULT = Shape()
#: Also a head count that is no power of two, and heads of more pairs than a CUDA block has threads.
LARGE = (Shape(32, 8, 128, 120), Shape(12, 4, 80, 56), Shape(6, 3, 1024, 8), Shape(71, 1, 64, 24))


def cases() -> list[tuple[str, str]]:
    """Mode and variant; a vision rope turns whole heads only."""
    return [(m, v) for m in MODES for v in VARIANTS if m != "vision" or v not in _PART_OF_A_HEAD]


#: Mode, variant, normed first, the cache's type: what a backend may compute as one.
FUSED = [
    (mode, variant, norm, cache)
    for mode in ("norm", "neox")
    for variant in ("plain", "yarn", "partial", "offset")
    for norm in (False, True)
    for cache in (None, "f4", "f2")
    if (norm or cache) and not (norm and variant == "offset")
]


def make(mode: str, variant: str, shape: Shape = DEFAULT) -> Rope:
    n_dims = {"n_dims": shape.head_dim, **VARIANTS[variant]}["n_dims"]
    third = n_dims // 6
    sections = (third + n_dims // 2 - 3 * third, third, third, 0)
    if mode == "vision":
        n_dims, sections = shape.head_dim // 2, (shape.head_dim // 4, shape.head_dim // 4, 0, 0)
    return Rope(mode, **{**VARIANTS[variant], "n_dims": n_dims, "sections": sections})


def inputs(
    rope: Rope, rows: int, dtype: str, shape: Shape = DEFAULT, batch: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(rows)
    positions = shape.positions()
    x = rng.standard_normal((batch, len(positions), shape.n_head, shape.head_dim)).astype(dtype)
    pos = np.stack([np.roll(positions, i) for i in range(rope.n_pos)])
    factors = rng.uniform(0.9, 4, (rows, shape.head_dim // 2)).astype(np.float32) if rows else None
    return x, pos, factors


def check(ggml: Ggml, mode: str, variant: str, rows: str, dtype: str, shape: Shape = DEFAULT) -> float:
    """Largest error in units of what float32 allows, over contiguous heads and a view of more heads."""
    rope = make(mode, variant, shape)
    x, pos, factors = inputs(rope, shape.rows()[rows], dtype, shape)
    expected, slack = rope.reference(x, pos, factors, ggml.ulps_per_octave)
    return max(_excess(ggml.rotate(rope, x, pos, factors, gap=gap), expected, slack) for gap in (0, 3))


def heads_alone(
    ggml: Ggml, rope: Rope, x: np.ndarray, pos: np.ndarray, factors: np.ndarray, copies: int = 1
) -> np.ndarray:
    """The heads of ``x`` rotated in calls of their own, each by its row of ``factors``; with ``copies`` of both."""
    group = x.shape[2] // len(factors)
    calls = [(x[:, :, [h] * copies], factors[[h // group] * copies]) for h in range(x.shape[2])]
    return np.concatenate([ggml.rotate(rope, head, pos, row)[:, :, :1] for head, row in calls], axis=2)


def check_fused(
    ggml: Ggml, mode: str, variant: str, norm: bool, cache: str | None, rows: str, shape: Shape = DEFAULT
) -> float:
    """The same for a rope with its neighbours; cells of the cache that no token goes to must keep their values."""
    rope = make(mode, variant, shape)
    x, pos, factors = inputs(rope, shape.rows()[rows], "f4", shape, batch=1 if cache else 2)
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.5, 2, shape.head_dim).astype(np.float32) if norm else None
    normed = x.astype(np.float64)
    if weight is not None:
        normed = normed / np.sqrt((normed**2).mean(axis=-1, keepdims=True) + EPS) * weight
    expected, slack = rope.reference(normed, pos, factors, ggml.ulps_per_octave)
    if norm:
        slack = slack + np.abs(normed).max(axis=-1, keepdims=True) * 2.0**-20
    if cache is None:
        return _excess(ggml.rotate_fused(rope, x, pos, factors, weight), expected, slack)
    token, width = x.shape[1], shape.n_head * shape.head_dim
    before = rng.standard_normal((2 * token, width)).astype(cache)
    cells = rng.permutation(2 * token)[:token]
    after, allowed = before.astype(np.float64), np.zeros(before.shape)
    after[cells], allowed[cells] = expected.reshape(token, width), slack.reshape(token, width)
    return _excess(ggml.rotate_fused(rope, x, pos, factors, weight, cells, before), after, allowed)


def _excess(got: np.ndarray, expected: np.ndarray, slack: np.ndarray) -> float:
    """Largest error over what is allowed; a float16 result may also be rounded. Infinite for a change where none is."""
    error = np.abs(got - expected)
    if got.dtype == np.float16:
        rounded = np.abs(expected.astype(np.float16) - expected)
        slack = np.where(slack > 0, slack + np.abs(expected) * 2.0**-11 + 2.0**-24, rounded)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.where(error == 0, 0, error / slack)))  # NaN stays NaN, and is no pass

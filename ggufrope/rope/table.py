"""RopeTable: what every method boils down to, and the maths that methods share. numpy only.

The angle of pair ``i`` at position ``p`` in layer ``l`` and KV head ``h``, when the sequence has length ``L``::

    angle = p · base^(-2i/rot_dim) / (factors[row(L)][i] · head_ratios[l][h])

and cos and sin are multiplied by ``attn_scale[row(L)]``. Composition is multiplication.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ggufrope.errors import ParameterError
from ggufrope.late import np
from ggufrope.rope.length_rows import row_for
from ggufrope.rope.model import ModelRope

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["HeadRatios", "RopeTable", "geometric_points", "yarn_factors"]

_LONGEST = 2**31 - 1

#: One row of divisors per layer; layer ``l`` has ``n_head_kv[l]`` of them.
HeadRatios = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class RopeTable:
    """Divisors of the rotation frequencies ("frequency factors" in llama.cpp's sense).

    Attributes:
        factors: ``(n_rows, rot_dim/2)``, all > 0 and finite; one row without ``length_points`` serves every length.
        attn_scale: ``(n_rows,)``; multiplies cos and sin, hence q·k by its square.
        head_ratios: divisors per layer and KV head, or empty when all are 1.
        length_points: increasing lengths in tokens; row k serves lengths in (point[k-1], point[k]].
    """

    factors: NDArray[np.float64]
    attn_scale: NDArray[np.float64]
    head_ratios: HeadRatios = ()
    length_points: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.factors.ndim != 2 or self.attn_scale.shape != self.factors.shape[:1]:
            raise ParameterError(
                f"factors {self.factors.shape} and attention scales {self.attn_scale.shape} do not fit"
            )
        if len(self.length_points) not in ({0, 1} if len(self.factors) == 1 else {len(self.factors)}):
            raise ParameterError(f"{len(self.factors)} rows of factors need as many length points")
        if any(b <= a for a, b in itertools.pairwise((0, *self.length_points))):
            raise ParameterError(f"length points must increase from 1 on: {_shown(self.length_points)}")
        if self.length_points and self.length_points[-1] > _LONGEST:
            raise ParameterError(
                f"a row for {self.length_points[-1]} tokens: llama.cpp counts up to {_LONGEST}; take a smaller factor"
            )
        for name, values in (("frequency factors", self.factors), ("attention scale", self.attn_scale)):
            _require_positive(name, values)
        for layer, row in enumerate(self.head_ratios):
            _require_positive(f"head ratios of layer {layer}", np.asarray(row, dtype=np.float64))

    @classmethod
    def uniform(cls, factors: ArrayLike, attn_scale: float = 1.0, head_ratios: HeadRatios = ()) -> RopeTable:
        """One row for all lengths. ``factors`` has shape ``(rot_dim/2,)``."""
        row = np.array(factors, dtype=np.float64).reshape(1, -1)
        return cls(row, np.array([attn_scale], dtype=np.float64), head_ratios)

    @classmethod
    def identity(cls, model: ModelRope) -> RopeTable:
        """Plain RoPE."""
        return cls.uniform(np.ones(model.n_pairs))

    @classmethod
    def by_length(
        cls, points: Sequence[int], row: Callable[[int], ArrayLike], scale: Callable[[int], float] = lambda _: 1.0
    ) -> RopeTable:
        """Up to the first point plain RoPE, exactly; up to each further one what ``row`` and ``scale`` give for it.

        Args:
            points: increasing lengths in tokens; the first one is the context that the model was trained for.
            row: divisors ``(rot_dim/2,)`` for a length.
            scale: attention scale for a length.
        """
        rows = [np.asarray(row(length), dtype=np.float64) for length in points]
        scales = [float(scale(length)) for length in points]
        rows[0], scales[0] = np.ones_like(rows[0]), 1.0
        return cls(np.stack(rows), np.array(scales), length_points=tuple(points))

    @property
    def per_head(self) -> bool:
        """Whether any head differs from plain rotation."""
        return any(r != 1.0 for row in self.head_ratios for r in row)

    def with_head_ratios(self, ratios: HeadRatios) -> RopeTable:
        """The same table with per-head ratios on top (Ms-PoE composed with a base method)."""
        return RopeTable(self.factors, self.attn_scale, ratios, self.length_points)

    def row(self, length: int | None = None) -> int:
        """Index of the row that serves a sequence of ``length`` tokens; None or beyond the last point: the last row."""
        return row_for(self.length_points, length).index

    def frequencies(
        self, model: ModelRope, layer: int = 0, head: int = 0, length: int | None = None
    ) -> NDArray[np.float64]:
        """Effective radians per token of each pair, shape ``(rot_dim/2,)``, the model's own factors included."""
        ratio = self.head_ratios[layer][head] if self.head_ratios else 1.0
        own = np.asarray(model.own_factors) if model.own_factors else 1.0
        return np.asarray(model.base_frequencies() / (own * self.factors[self.row(length)] * ratio))

    def close_to(self, other: RopeTable, rtol: float = 1e-6) -> bool:
        """Whether both rotate alike, to ``rtol`` in every divisor and scale (float32 keys carry 6e-8)."""
        return (
            self.factors.shape == other.factors.shape
            # the last point is only how far a table reaches, not which row serves what
            and self.length_points[:-1] == other.length_points[:-1]
            and self.head_ratios == other.head_ratios
            and np.allclose(self.factors, other.factors, rtol=rtol, atol=0)
            and np.allclose(self.attn_scale, other.attn_scale, rtol=rtol, atol=0)
        )


def geometric_points(first: int, last: int, ratio: float) -> tuple[int, ...]:
    """``first``, then ``ratio`` times more each, and ``last`` itself; whole numbers, increasing.

    Args:
        first: at least 1.
        last: at least ``first``.
        ratio: above 1.
    """
    points = [first]
    for power in itertools.count(1):
        point = round(first * ratio**power)
        if point >= last:
            break
        if point > points[-1]:
            points.append(point)
    return (*points, last) if last > first else (first,)


def _shown(points: tuple[int, ...]) -> str:
    return ", ".join(map(str, points[:8])) + (", ..." if len(points) > 8 else "")


def _require_positive(name: str, values: NDArray[np.float64]) -> None:
    with np.errstate(over="ignore", under="ignore"):
        stored = values.astype(np.float32)  # what a file can hold
    bad = ~(np.isfinite(stored) & (stored > 0))
    if bad.any():
        raise ParameterError(
            f"{name}: found {values[bad].flat[0]}; every entry must be a finite number above 0 that fits into float32"
        )


def yarn_factors(
    rot_dim: int,
    base: float,
    factor: float,
    original_ctx: int,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> NDArray[np.float64]:
    """YaRN's "NTK-by-parts" divisors, shape ``(rot_dim/2,)``; arXiv 2309.00071, equations 19-23.

    Pairs that turn more than ``beta_fast`` times within ``original_ctx`` keep their frequency (divisor 1), those that
    turn fewer than ``beta_slow`` times are interpolated (divisor ``factor``), in between the *frequency* is mixed
    linearly over the pair index. ``truncate`` rounds the ramp's ends outwards to whole indices, as the authors' code
    does.
    """

    def index_turning(rotations: float) -> float:
        return rot_dim * float(np.log(original_ctx / (rotations * 2 * np.pi))) / (2 * float(np.log(base)))

    low, high = index_turning(beta_fast), index_turning(beta_slow)
    if truncate:
        low, high = np.floor(low), np.ceil(high)
    low, high = max(low, 0.0), min(high, rot_dim - 1.0)
    ramp = np.clip((np.arange(rot_dim // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - ramp) + ramp / factor), dtype=np.float64)

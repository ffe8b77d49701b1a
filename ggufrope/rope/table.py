"""RopeTable: what every method boils down to, and the maths that methods share. numpy only.

The angle of pair ``i`` at position ``p`` in layer ``l`` and KV head ``h``, when the sequence has length ``L``::

    angle = p · base^(-2i/rot_dim) / (factors[row(L)][i] · head_factors[row(L)][l][h][i])

and cos and sin are multiplied by ``attn_scale[row(L)]``. Layers with a sliding window may have other ``factors`` and
scales than the rest, and a base of their own: then they stand in ``sliding``. Composition is multiplication. An axis of
``head_factors`` along which nothing changes has length 1, so that a table is no larger than what its method has to say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ggufrope.errors import ParameterError
from ggufrope.late import np
from ggufrope.rope.length_rows import row_for
from ggufrope.rope.model import ModelRope

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["HeadRatios", "RopeTable", "geometric_points", "part_factors", "yarn_factors"]

_LONGEST = 2**31 - 1

#: One row of divisors per layer; layer ``l`` has ``n_head_kv[l]`` of them.
HeadRatios = tuple[tuple[float, ...], ...]


def _no_heads() -> NDArray[np.float64]:
    return np.ones((1, 1, 1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class RopeTable:
    """Divisors of the rotation frequencies ("frequency factors" in llama.cpp's sense): the product of two arrays.

    Attributes:
        factors: ``(n_rows, rot_dim/2)``, what all heads share; all > 0 and finite. One row without ``length_points``
            serves every length. In a model with sliding windows, those of layers without one.
        attn_scale: ``(n_rows,)``; multiplies cos and sin, hence q·k by its square.
        length_points: increasing lengths in tokens; row k serves lengths in (point[k-1], point[k]].
        head_factors: ``(n_rows or 1, n_layer or 1, n_head or 1, rot_dim/2 or 1)``, what differs between heads, on top
            of ``factors``. ``n_head`` is that of the widest layer; entries beyond a layer's KV heads mean nothing.
        n_head_kv: KV heads of each layer; empty where the table says nothing of heads (factors that are all 1 say
            something).
        sliding: factors, scales and length points of sliding-window layers, relative to their own base frequencies
            (``ModelRope.of_sliding``); None: as the other layers'. It has no heads: ``head_factors`` are of all layers.
    """

    factors: NDArray[np.float64]
    attn_scale: NDArray[np.float64]
    length_points: tuple[int, ...] = ()
    head_factors: NDArray[np.float64] = field(default_factory=_no_heads)
    n_head_kv: tuple[int, ...] = ()
    sliding: RopeTable | None = None

    def __post_init__(self) -> None:
        if self.factors.ndim != 2 or self.attn_scale.shape != self.factors.shape[:1]:
            raise ParameterError(
                f"factors {self.factors.shape} and attention scales {self.attn_scale.shape} do not fit"
            )
        if len(self.length_points) not in ({0, 1} if self.n_rows == 1 else {self.n_rows}):
            raise ParameterError(f"{self.n_rows} rows of factors need as many length points")
        if any(b <= a for a, b in itertools.pairwise((0, *self.length_points))):
            raise ParameterError(f"length points must increase from 1 on: {_shown(self.length_points)}")
        if self.length_points and self.length_points[-1] > _LONGEST:
            raise ParameterError(
                f"a row for {self.length_points[-1]} tokens: llama.cpp counts up to {_LONGEST}; take a smaller factor"
            )
        for name, values in (("frequency factors", self.factors), ("attention scale", self.attn_scale)):
            _require_positive(name, values)
        self._check_heads()
        if self.sliding is not None and (self.sliding.sliding is not None or self.sliding.n_head_kv):
            raise ParameterError("what sliding-window layers have of their own are factors and scales, no heads")

    def _check_heads(self) -> None:
        heads = self.head_factors
        full = (self.n_rows, len(self.n_head_kv), _widest(self.n_head_kv), self.n_pairs) if self.n_head_kv else (1,) * 4
        if heads.ndim != 4 or any(n not in (1, whole) for n, whole in zip(heads.shape, full, strict=True)):
            raise ParameterError(
                f"head factors {heads.shape} do not fit {self.n_rows} rows, {self.n_pairs} pairs and layers of "
                f"{self.n_head_kv} KV heads"
            )
        for layer in range(heads.shape[1]):
            _require_positive(f"head ratios of layer {layer}", heads[:, layer])
        if not self.n_head_kv and heads.item() != 1.0:
            raise ParameterError(f"a head factor of {heads.item():g} without heads; factors are what all heads share")

    @classmethod
    def uniform(cls, factors: ArrayLike, attn_scale: float = 1.0) -> RopeTable:
        """One row for all lengths. ``factors`` has shape ``(rot_dim/2,)``."""
        row = np.array(factors, dtype=np.float64).reshape(1, -1)
        return cls(row, np.array([attn_scale], dtype=np.float64))

    @classmethod
    def identity(cls, model: ModelRope) -> RopeTable:
        """Plain RoPE."""
        plain, pairs = cls.uniform(np.ones(model.n_pairs)), model.of_sliding.n_pairs
        return plain if pairs == model.n_pairs else plain.with_sliding(cls.uniform(np.ones(pairs)))

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
        return cls(np.stack(rows), np.array(scales), tuple(points))

    @classmethod
    def of_heads(cls, model: ModelRope, ratios: HeadRatios) -> RopeTable:
        """Plain RoPE with every position of KV head h in layer l divided by ``ratios[l][h]``.

        Raises:
            ParameterError: other numbers of layers or KV heads than the model has, or a ratio that is not above 0.
        """
        if tuple(map(len, ratios)) != model.n_head_kv:
            raise ParameterError(f"head ratios for {tuple(map(len, ratios))} KV heads, the model has {model.n_head_kv}")
        heads = np.ones((1, model.n_layer, _widest(model.n_head_kv), 1))
        for layer, row in enumerate(ratios):
            heads[0, layer, : len(row), 0] = row
        return replace(cls.identity(model), head_factors=heads, n_head_kv=model.n_head_kv)

    @classmethod
    def of_pairs(cls, model: ModelRope, factors: Sequence[ArrayLike]) -> RopeTable:
        """Plain RoPE with pair i of KV head h in layer l turning ``factors[l][h][i]`` times slower.

        Args:
            model: the facts.
            factors: for each layer ``(n_head_kv, rot_dim/2)``, with the layer's own numbers of both.

        Raises:
            ParameterError: other shapes, a factor that is not above 0, or other factors than 1 in layers that rotate
                other numbers of dimensions than layers without a sliding window do.
        """
        rows = [np.asarray(row, dtype=np.float64) for row in factors]
        expected = [(n, model.n_pairs_of(layer)) for layer, n in enumerate(model.n_head_kv)]
        if [row.shape for row in rows] != expected:
            raise ParameterError(
                f"pair factors of shapes {_shown([r.shape for r in rows])}; the model has {_shown(expected)}"
            )
        heads = np.ones((1, model.n_layer, _widest(model.n_head_kv), model.n_pairs))
        for layer, row in enumerate(rows):
            if row.shape[1] == model.n_pairs:
                heads[0, layer, : len(row)] = row
            elif (row != 1.0).any():
                raise ParameterError(
                    f"pair factors: layer {layer} has a sliding window and rotates {2 * row.shape[1]} dimensions, not "
                    f"{model.rot_dim}; its factors must be 1"
                )
        return replace(cls.identity(model), head_factors=heads, n_head_kv=model.n_head_kv)

    @property
    def n_rows(self) -> int:
        """How many rows the length chooses from."""
        return len(self.factors)

    @property
    def n_pairs(self) -> int:
        """Rotated pairs of a head."""
        return int(self.factors.shape[1])

    @property
    def per_head(self) -> bool:
        """Whether any head differs from what all share."""
        return bool((self._of_own_heads() != 1.0).any())

    @property
    def separable(self) -> bool:
        """Whether a head's own factor is one number, whatever the pair and the length: what ``head_ratios`` can say."""
        rows, _, _, pairs = self.head_factors.shape
        return bool(rows == pairs == 1)

    @property
    def head_ratios(self) -> HeadRatios:
        """The factor of each layer and KV head; empty where the table has nothing to say of heads.

        Raises:
            ParameterError: the table is not ``separable``.
        """
        if not self.separable:
            raise ParameterError("head factors that differ by pair or length are no ratios, one for each head")
        if not self.n_head_kv:
            return ()
        wide = np.broadcast_to(self.head_factors[0, :, :, 0], (len(self.n_head_kv), _widest(self.n_head_kv)))
        return tuple(tuple(map(float, row[:n])) for row, n in zip(wide, self.n_head_kv, strict=True))

    def head_rows(self, layer: int) -> NDArray[np.float64]:
        """What the heads of a layer have of their own, ``(n_head_kv, rot_dim/2 or 1)``, where no length changes it."""
        if not self.n_head_kv:
            return np.asarray(self.head_factors[0, 0])
        heads = self.head_factors[0, layer if self.head_factors.shape[1] > 1 else 0]
        n = self.n_head_kv[layer]
        return np.asarray(heads[:n] if len(heads) > 1 else heads.repeat(n, axis=0))

    def without_heads(self) -> RopeTable:
        """What all heads share, alone."""
        return replace(self, head_factors=_no_heads(), n_head_kv=())

    def in_heads(self, model: ModelRope) -> RopeTable:
        """The same with what all heads of layers without a sliding window share as factors of each of them.

        Args:
            model: the facts.

        Raises:
            ParameterError: a table of several rows, or of another model.
        """
        if (self.factors == 1.0).all():
            return self
        if self.n_rows > 1:
            raise ParameterError("factors that follow the length are no factors of heads")
        rows = [
            np.broadcast_to(self.factors[0] if model.rotates(layer) and not model.slides(layer) else 1.0, (n, pairs))
            for layer, (n, pairs) in enumerate((n, model.n_pairs_of(i)) for i, n in enumerate(model.n_head_kv))
        ]
        rest = replace(self, factors=np.ones_like(self.factors))
        rest = rest.with_sliding(self.of_sliding) if model.has_windows else rest
        return rest * RopeTable.of_pairs(model, rows)

    @property
    def inverse(self) -> RopeTable:
        """What undoes a table of one row: its product with it is plain RoPE."""
        return replace(
            self,
            factors=1 / self.factors,
            attn_scale=1 / self.attn_scale,
            head_factors=1 / self.head_factors,
            sliding=self.sliding and self.sliding.inverse,
        )

    @property
    def of_sliding(self) -> RopeTable:
        """What all heads of sliding-window layers share, relative to ``ModelRope.of_sliding``."""
        return self.sliding or replace(self, head_factors=_no_heads(), n_head_kv=())

    def without_sliding(self) -> RopeTable:
        """What layers without a sliding window have."""
        return replace(self, sliding=None)

    def with_sliding(self, sliding: RopeTable) -> RopeTable:
        """The same with these factors and scales in sliding-window layers."""
        alone = self.without_sliding()
        return alone if sliding.close_to(alone.without_heads(), rtol=0) else replace(self, sliding=sliding)

    def _of_own_heads(self) -> NDArray[np.float64]:
        """``head_factors`` with 1 beyond the KV heads that a layer has."""
        if not self.n_head_kv:
            return self.head_factors
        own = np.arange(_widest(self.n_head_kv)) < np.array(self.n_head_kv)[:, None]
        return np.where(own[:, :, None], self.head_factors, 1.0)

    def __mul__(self, other: RopeTable) -> RopeTable:
        """Both, one on top of the other: divisors and scales multiply.

        Where both follow the length, the result changes wherever either does.

        Raises:
            ParameterError: tables of different models.
        """
        if self.n_pairs != other.n_pairs or (self.n_head_kv and other.n_head_kv not in ((), self.n_head_kv)):
            raise ParameterError(
                f"tables of {self.n_pairs} and {other.n_pairs} pairs, or of other heads, do not combine"
            )
        points = tuple(sorted({p for t in (self, other) if t.n_rows > 1 for p in t.length_points}))
        a, b = self._at(points), other._at(points)
        return RopeTable(
            a.factors * b.factors,
            a.attn_scale * b.attn_scale,
            points or max(self.length_points, other.length_points),
            a.head_factors * b.head_factors,
            self.n_head_kv or other.n_head_kv,
            self.of_sliding * other.of_sliding if self.sliding or other.sliding else None,
        )

    def repeated(self, points: tuple[int, ...]) -> RopeTable:
        """A table of one row as one of equal rows for these length points."""
        rows = [0] * len(points)
        return replace(self, factors=self.factors[rows], attn_scale=self.attn_scale[rows], length_points=points)

    def _at(self, points: tuple[int, ...]) -> RopeTable:
        """The same table with a row for each of ``points``, or as it is where it has one row."""
        if self.n_rows == 1 or points == self.length_points:
            return self
        rows = [self.row(point) for point in points]
        heads = self.head_factors if len(self.head_factors) == 1 else self.head_factors[rows]
        return replace(
            self, factors=self.factors[rows], attn_scale=self.attn_scale[rows], length_points=points, head_factors=heads
        )

    def row(self, length: int | None = None) -> int:
        """Index of the row that serves a sequence of ``length`` tokens; None or beyond the last point: the last row."""
        return row_for(self.length_points, length).index

    def frequencies(
        self, model: ModelRope, layer: int | None = None, head: int = 0, length: int | None = None
    ) -> NDArray[np.float64]:
        """Effective radians per token of each pair, shape ``(rot_dim/2,)``, the model's own factors included.

        Args:
            model: the facts that the table is relative to.
            layer: counted from 0; None: a layer without a sliding window, and without a factor by layer.
            head: KV head of the layer.
            length: tokens of the text; None: longer than any length point.
        """
        slides = layer is not None and model.slides(layer)
        part, seen = (self.of_sliding, model.of_sliding) if slides else (self, model)
        heads = self.head_factors
        at = (i if n > 1 else 0 for i, n in zip((self.row(length), layer or 0, head), heads.shape[:3], strict=True))
        own = np.asarray(seen.own_factors) if seen.own_factors else 1.0
        of_head = heads[tuple(at)]
        if len(of_head) not in (1, seen.n_pairs):  # see of_pairs
            of_head = np.ones(1)
        return np.asarray(seen.base_frequencies() / (own * part.factors[part.row(length)] * of_head))

    def scale(self, model: ModelRope, layer: int | None = None, length: int | None = None) -> float:
        """What multiplies cos and sin; the arguments are those of ``frequencies``."""
        part = self.of_sliding if layer is not None and model.slides(layer) else self
        return float(part.attn_scale[part.row(length)])

    def close_to(self, other: RopeTable, rtol: float = 1e-6) -> bool:
        """Whether both rotate alike, to ``rtol`` in every divisor and scale (float32 keys carry 6e-8)."""
        return (
            self.factors.shape == other.factors.shape
            # the last point is only how far a table reaches, not which row serves what
            and self.length_points[:-1] == other.length_points[:-1]
            and self.n_head_kv == other.n_head_kv
            and np.allclose(self.factors, other.factors, rtol=rtol, atol=0)
            and np.allclose(self._of_own_heads(), other._of_own_heads(), rtol=rtol, atol=0)
            and np.allclose(self.attn_scale, other.attn_scale, rtol=rtol, atol=0)
            and (not (self.sliding or other.sliding) or self.of_sliding.close_to(other.of_sliding, rtol))
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


def _widest(n_head_kv: tuple[int, ...]) -> int:
    return max((1, *n_head_kv))


def part_factors(ratios: ArrayLike, frequencies: NDArray[np.float64], from_wavelength: float) -> NDArray[np.float64]:
    """A ratio for slow pairs only: divisors, shape ``(heads, rot_dim/2)``.

    As YaRN's "NTK-by-parts" (arXiv 2309.00071, section 3.2), with wavelengths in tokens in place of turns within a
    context: pairs of wavelengths up to ``from_wavelength`` keep their frequency, from twice that on it is divided by
    the ratio, in between it is mixed in proportion to the logarithm of the wavelength, which is to the pair's index.

    Args:
        ratios: of each head, ``(heads,)``.
        frequencies: radians per token that the model was trained with, ``(rot_dim/2,)``.
        from_wavelength: tokens, above 0.
    """
    share = np.clip(np.log2(2 * np.pi / frequencies / from_wavelength), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - share) + share / np.asarray(ratios, dtype=np.float64)[:, None]))


def _shown(points: Sequence[object]) -> str:
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

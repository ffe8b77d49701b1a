"""Divisors that somebody gives one by one, for pairs, layers or heads; and what they are on a model. Pure.

Five shapes: ``[pair]``, ``[layer]``, ``[layer, pair]``, ``[layer, head]`` and ``[layer, head, pair]``, heads being KV
heads. What a table's rows are is told from their numbers, and by ``axes`` where these fit two shapes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ggufrope.errors import ParameterError
from ggufrope.late import np
from ggufrope.rope.model import ModelRope

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AXES", "GIVEN", "LAYOUT", "PAIRS", "FactorTable", "digest_of"]

PAIRS = ("pair",)
LAYOUT = ("layer", "head", "pair")
#: What a factor may differ by.
AXES = (PAIRS, ("layer",), ("layer", "pair"), ("layer", "head"), LAYOUT)

#: In ``ggufrope.params``: the numbers stand in keys of their own.
GIVEN = "given"


@dataclass(frozen=True, slots=True, eq=False)
class FactorTable:
    """Divisors of the frequencies that a model has, as a file of them says it.

    angle = p · frequency / factor: a factor of 2 has its pairs turn at half the speed. llama.cpp calls them frequency
    factors.

    Attributes:
        factors: one axis, or for each layer an array of one axis or two; all finite and above 0. One axis may be all
            of a larger table, flat, in the order of ``axes``; then those must be given.
        axes: one of ``AXES``; empty: as the numbers fit the model.
        attn_scale: multiplies cos and sin, and so q·k by its square, in layers without a sliding window.
        model: the model that it was made for, as ``modelfile.identity.Identity.as_json``; None: any that it fits.
        params: how it was made, ready for JSON.
        origin: the file, for messages.
        digest: ``digest_of`` its rows, once a model is known.
    """

    factors: NDArray[np.float64] | tuple[NDArray[np.float64], ...]
    axes: tuple[str, ...] = ()
    attn_scale: float = 1.0
    model: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "table"
    digest: str = ""

    def __post_init__(self) -> None:
        if self.axes and self.axes not in AXES:
            raise ParameterError(
                f'{self.origin}: "axes" is {_shown(self.axes)}; it is {" or ".join(map(_shown, AXES))}'
            )
        if self.axes and self.n_axes not in (1, len(self.axes)):
            raise ParameterError(
                f'{self.origin}: {self.n_axes} axes of factors, and "axes" names {_shown(self.axes)}; correct it'
            )
        self._require_positive('"attn_scale"', np.array(self.attn_scale))
        for where, values in self._parts():
            self._require_positive(f"factors{where}", values)

    @property
    def n_axes(self) -> int:
        """How deep the numbers are nested: 1 to 3."""
        if not isinstance(self.factors, tuple):
            return 1
        return 1 + max((rows.ndim for rows in self.factors), default=1)

    @property
    def changes_nothing(self) -> bool:
        """Whether every factor and the scale are 1."""
        return self.attn_scale == 1.0 and all(bool((values == 1.0).all()) for _, values in self._parts())

    def on(self, model: ModelRope) -> FactorTable:
        """The same with its axes named and its digest.

        Raises:
            ParameterError: the numbers do not fit the model.
        """
        named = replace(self, axes=self.axes_on(model))
        return replace(named, digest=digest_of(named.rows(model)))

    def axes_on(self, model: ModelRope) -> tuple[str, ...]:
        """What the axes are on a model.

        Raises:
            ParameterError: the numbers fit none, or several and ``axes`` is not given.
        """
        if self.axes:
            if not self._fits(self.axes, model):
                raise ParameterError(f"{self.origin}: {self._found()}, but {_wanted(self.axes, model)}; give as many")
            return self.axes
        fitting = [axes for axes in AXES if len(axes) == self.n_axes and self._fits(axes, model)]
        if len(fitting) > 1:
            raise ParameterError(
                f"{self.origin}: {self._found()} may be {' or '.join(map(_shown, fitting))} of this model; say "
                'which in "axes"'
            )
        if not fitting:
            possible = "; or ".join(_wanted(axes, model) for axes in AXES if len(axes) == self.n_axes)
            raise ParameterError(f"{self.origin}: {self._found()}, but {possible}; give as many")
        return fitting[0]

    def pairs(self) -> NDArray[np.float64]:
        """Of a table ``[pair]``: its factors, ``(rot_dim/2,)``."""
        return np.asarray(self.factors)

    def rows(self, model: ModelRope) -> list[NDArray[np.float64]]:
        """For each layer the factors of its heads' pairs, ``(n_head_kv, rot_dim/2)``, with its own numbers of both.

        Those of a table ``[pair]`` are for all layers that rotate and have no sliding window.

        Raises:
            ParameterError: the numbers do not fit the model, or are not 1 in a layer that does not rotate.
        """
        axes, shapes = self.axes_on(model), _shapes(model)
        if axes == PAIRS:
            acts = {layer for layer in range(model.n_layer) if model.rotates(layer) and not model.slides(layer)}
            of_all = self.pairs()
            return [np.tile(of_all, (n, 1)) if i in acts else np.ones((n, k)) for i, (n, k) in enumerate(shapes)]
        parts = self._by_layer(axes, model)
        for layer, part in enumerate(parts):
            if not model.rotates(layer) and (part != 1.0).any():
                raise ParameterError(
                    f"{self.origin}: layer {layer} of {model.arch} does not rotate; its factors must be 1"
                )
        return [_spread(part, axes, shape) for part, shape in zip(parts, shapes, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """What ``ggufrope.params`` says of it: numbers of one axis; a digest of more, which have keys of their own."""
        whole = self.n_axes == 1 and len(self.axes) <= 1
        told: dict[str, Any] = {"factors": self.pairs().tolist() if whole else GIVEN}
        if self.axes:
            told["axes"] = list(self.axes)
        if not whole and self.digest:
            told["sha256"] = self.digest
        if self.attn_scale != 1.0:
            told["attn_scale"] = self.attn_scale
        return told | ({"params": dict(self.params)} if self.params else {})

    def _by_layer(self, axes: tuple[str, ...], model: ModelRope) -> Sequence[NDArray[np.float64]]:
        """The part of each layer, in the shape that a table of these axes has there."""
        if isinstance(self.factors, tuple):
            return self.factors
        sizes = [math.prod(_shape(axes, shape)) for shape in _shapes(model)]
        return np.split(self.factors, np.cumsum(sizes)[:-1])

    def _fits(self, axes: tuple[str, ...], model: ModelRope) -> bool:
        if axes == PAIRS:
            return self.n_axes == 1 and len(self.factors) == model.n_pairs
        shapes = [_shape(axes, shape) for shape in _shapes(model)]
        if not isinstance(self.factors, tuple):
            return len(self.factors) == sum(map(math.prod, shapes))
        return len(self.factors) == len(shapes) and all(
            part.shape == shape or part.size == math.prod(shape) == 0
            for part, shape in zip(self.factors, shapes, strict=True)
        )

    def _found(self) -> str:
        if not isinstance(self.factors, tuple):
            return f"{len(self.factors)} factors"
        shapes = sorted({rows.shape for rows in self.factors})
        each = " or ".join(" × ".join(map(str, shape)) for shape in shapes[:4])
        return f"{len(self.factors)} rows of {each}{' ...' * (len(shapes) > 4)} factors"

    def _parts(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        if isinstance(self.factors, tuple):
            yield from ((f"[{layer}]", rows) for layer, rows in enumerate(self.factors))
        else:
            yield "", self.factors

    def _require_positive(self, what: str, values: NDArray[np.float64]) -> None:
        with np.errstate(over="ignore", under="ignore"):
            stored = values.astype(np.float32)  # what a file can hold
        bad = np.argwhere(~(np.isfinite(stored) & (stored > 0)))
        if len(bad):
            index = "".join(f"[{i}]" for i in bad[0])
            raise ParameterError(
                f"{self.origin}: {what}{index} is {values[tuple(bad[0])]:g}; it must be a finite number above 0 that "
                "fits into float32"
            )


def digest_of(rows: Sequence[ArrayLike]) -> str:
    """sha256 of what layers' heads have, in the order layer, KV head, pair, as float32: what a file holds of them.

    Args:
        rows: for each layer ``(n_head_kv, rot_dim/2)``.
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.asarray(row, dtype="<f4").tobytes())
    return digest.hexdigest()


def _shapes(model: ModelRope) -> list[tuple[int, int]]:
    """KV heads and pairs of each layer."""
    return [(n, model.n_pairs_of(layer)) for layer, n in enumerate(model.n_head_kv)]


def _shape(axes: tuple[str, ...], shape: tuple[int, int]) -> tuple[int, ...]:
    """The shape of one layer's part of a table that has a layer axis."""
    return tuple(n for n, axis in zip(shape, ("head", "pair"), strict=True) if axis in axes)


def _spread(part: NDArray[np.float64], axes: tuple[str, ...], shape: tuple[int, int]) -> NDArray[np.float64]:
    """A layer's part for each of its heads and pairs."""
    full = tuple(n if axis in axes else 1 for n, axis in zip(shape, ("head", "pair"), strict=True))
    return np.array(np.broadcast_to(np.reshape(part, full), shape)) if math.prod(shape) else np.ones(shape)


def _wanted(axes: tuple[str, ...], model: ModelRope) -> str:
    """How many numbers a table of these axes has on a model, in words."""
    counts = {"layer": (model.n_layer,), "head": tuple(sorted(set(model.n_head_kv))),
              "pair": tuple(sorted({model.n_pairs_of(i) for i in range(model.n_layer)}))}  # fmt: skip
    if axes == PAIRS:
        counts["pair"] = (model.n_pairs,)
    names = {"layer": "layers", "head": "KV heads", "pair": "pairs"}
    each = (f"{' or '.join(map(str, counts[axis]))} {names[axis]}" for axis in axes)
    return f"{_shown(axes)} of this model is {' × '.join(each)}"


def _shown(axes: Sequence[str]) -> str:
    return f"[{', '.join(axes)[:60]}]"

"""What a space is: a few parameters, and the log factors that follow from them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.layout import PairLayout

__all__ = ["CurveSpace", "Space", "TiedSpace", "bezier"]

Floats = NDArray[np.float64]


class Space(ABC):
    """Which tables may be tried: log factors as a function of parameters.

    A factor divides a pair's frequency, relative to the file at hand; its logarithm is 0 where nothing changes. Entries
    of layers that may not be moved are 0 (``PairLayout.free``), and layers that use another's K have its entries.

    Attributes:
        name: as on the command line.
        summary: one line for people.
        paper: where the shape comes from; empty for none.
        shape: of the parameters, in words.
        bounds: the least and the largest log factor.
        differentiable: whether log factors are parameters, tied (``TiedSpace``); a gradient needs that.
    """

    name: str
    summary: str
    paper: str
    shape: str
    bounds: tuple[float, float]
    differentiable: ClassVar[bool] = False

    @abstractmethod
    def n_parameters(self, layout: PairLayout) -> int:
        """How many parameters there are."""

    @abstractmethod
    def log_factors(self, theta: Floats, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """The log factors of parameters ``theta``, within ``bounds``, ``(layout.size,)``.

        Args:
            theta: ``(n_parameters,)``.
            layout: of the model.
            file: the file that they are relative to; only spaces that come from a method look at it.

        Raises:
            UnsupportedModelError: the file cannot carry the space.
        """

    def start(self, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """Parameters where every log factor is 0, ``(n_parameters,)``."""
        return np.zeros(self.n_parameters(layout))

    def limits(self, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """The least and the largest value of each parameter, ``(n_parameters, 2)``; ``start`` is between them."""
        return np.tile(np.array(self.bounds), (self.n_parameters(layout), 1))


class TiedSpace(Space):
    """Log factors that are parameters: each entry follows one of them, or stays 0.

    Attributes, beside those of ``Space``:
        by_layer: whether layers have parameters of their own.
        by_head: whether KV heads do; in models whose heads share one rotated K (MLA) they cannot.
        by_pair: whether pairs do.
    """

    differentiable = True
    by_layer: ClassVar[bool] = False
    by_head: ClassVar[bool] = False
    by_pair: ClassVar[bool] = False

    def index(self, layout: PairLayout) -> NDArray[np.int64]:
        """The parameter that each entry follows, ``(layout.size,)``; -1 where it stays 0.

        Log factors are ``concatenate([theta, [0]])[index]``. Parameters are numbered by layer, head and pair.
        """
        at = layout.coordinates()
        moved = np.array(layout.free)[at[:, 0]]
        at[:, 0] = np.array(layout.leader)[at[:, 0]]
        told_apart = [self.by_layer, self.by_head and not layout.one_k, self.by_pair]
        at[:, np.logical_not(told_apart)] = 0
        index = np.full(layout.size, -1, np.int64)
        index[moved] = np.unique(at[moved], axis=0, return_inverse=True)[1].reshape(-1)
        return index

    def n_parameters(self, layout: PairLayout) -> int:
        """See ``Space``."""
        return int(self.index(layout).max()) + 1

    def log_factors(self, theta: Floats, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """See ``Space``."""
        _require_number(self, theta, self.n_parameters(layout))
        return np.concatenate([np.clip(theta, *self.bounds), [0.0]])[self.index(layout)]


class CurveSpace(Space):
    """A log factor for each entry, of few numbers: the heights of a Bézier curve's control points.

    Attributes, beside those of ``Space``:
        points: control points, evenly spaced.
    """

    points: ClassVar[int] = 4

    @abstractmethod
    def place(self, layout: PairLayout) -> Floats:
        """Where each entry stands on the curve, 0 to 1, ``(layout.size,)``; NaN where it stays 0."""

    def n_parameters(self, layout: PairLayout) -> int:
        """See ``Space``."""
        return self.points

    def log_factors(self, theta: Floats, layout: PairLayout, file: ModelFile | None = None) -> Floats:
        """See ``Space``."""
        _require_number(self, theta, self.points)
        place = self.place(layout)
        return np.where(np.isnan(place), 0.0, np.clip(bezier(theta, np.nan_to_num(place)), *self.bounds))


def bezier(heights: Floats, at: Floats) -> Floats:
    """A Bézier curve's height at ``at`` (0 to 1), by de Casteljau's rule; control points are evenly spaced.

    Args:
        heights: of the control points, ``(n,)``.
        at: any shape.
    """
    rows = [np.full(np.shape(at), height) for height in heights]
    while len(rows) > 1:
        rows = [a + (b - a) * at for a, b in itertools.pairwise(rows)]
    return np.asarray(rows[0])


def _require_number(space: Space, theta: Floats, expected: int) -> None:
    if np.shape(theta) != (expected,):
        raise ValueError(f"{space.name}: parameters of shape {np.shape(theta)}, expected {(expected,)}")

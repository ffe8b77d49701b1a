"""CMA-ES, by the package ``cmaes``: candidates around a mean, which moves and learns a covariance from their order."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UsageError

__all__ = ["Evolution"]

Floats = NDArray[np.float64]


class Evolution:
    """Covariance matrix adaptation (Hansen, arXiv 1604.00772) within bounds, one generation at a time.

    Its random numbers are a function of the seed and the generation, so that a state needs no generator.

    Attributes:
        generation: generations that were told.
    """

    def __init__(self, mean: Floats, limits: Floats, *, sigma: float, seed: int) -> None:
        """Begin at ``mean``.

        Args:
            mean: ``(n,)``, within ``limits``.
            limits: ``(n, 2)``, the least and the largest value of each parameter.
            sigma: standard deviation of the first candidates, in parameters.
            seed: of the candidates.

        Raises:
            UsageError: the package is missing.
        """
        self._limits, self._seed, self.generation = limits, seed, 0
        # one parameter is not adapted by the package's formulas: another, which nothing reads, stands beside it
        self._unread = 1 if len(mean) == 1 else 0
        pad = [*mean, *[0.0] * self._unread]
        bounds = np.concatenate([limits, np.full((self._unread, 2), (-1.0, 1.0))])
        self._cma = _package().CMA(mean=np.array(pad, np.float64), sigma=sigma, bounds=bounds, seed=0)
        self._settle()

    @property
    def mean(self) -> Floats:
        """Where candidates are around, ``(n,)``, within the limits. A copy."""
        mean = np.array(self._cma.mean)[: len(self._limits)]
        return np.asarray(np.clip(mean, self._limits[:, 0], self._limits[:, 1]))

    def ask(self) -> list[Floats]:
        """The candidates of the next generation; the same until ``tell``."""
        self._candidates = self._ask()
        return [candidate[: len(self._limits)] for candidate in self._candidates]

    def _ask(self) -> list[Floats]:
        digest = hashlib.sha256(f"evolution {self._seed} {self.generation}".encode()).digest()
        self._cma.reseed_rng(int.from_bytes(digest[:4], "big"))
        return [self._cma.ask() for _ in range(self._cma.population_size)]

    def tell(self, order: Sequence[int]) -> None:
        """Learn from the generation that was asked for.

        Args:
            order: places of the candidates, the best first: nothing else of them counts.
        """
        ranks = {place: float(rank) for rank, place in enumerate(order)}
        self._cma.tell([(candidate, ranks[place]) for place, candidate in enumerate(self._candidates)])
        self.generation += 1
        self._settle()

    def _settle(self) -> None:
        """Keep the state between two generations, and go on from what is kept: half a matrix, which was all of one."""
        self._kept = copy.deepcopy(self._cma.__getstate__())
        self._cma.__setstate__(copy.deepcopy(self._kept))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What the next generations depend on, as it was after the last ``tell``."""
        return {f"cma{name}": np.array(self._kept[name]) for name in _KEPT}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a ``state`` of one that was made with the same arguments.

        Raises:
            UsageError: it is none.
        """
        now = self._kept
        given = {name: np.asarray(state.get(f"cma{name}", ())) for name in _KEPT}
        if any(given[name].shape != np.shape(now[name]) for name in _KEPT):
            raise UsageError("what was kept of a search is of another space or version of cmaes; begin anew elsewhere")
        values = {name: value.astype(np.float64) if value.ndim else value.item() for name, value in given.items()}
        self._cma.__setstate__({**now, **values})
        self.generation = int(values["_g"])
        self._settle()


#: What changes from generation to generation, by the package's names; the rest follows from the arguments.
_KEPT = ("_mean", "_sigma", "_c_1d", "_p_sigma", "_pc", "_g", "_funhist_values")


def _package() -> Any:
    try:
        import cmaes
    except ImportError:
        raise UsageError("the blind engine needs the package cmaes: pip install 'ggufrope[tune]'") from None
    return cmaes

"""A race: candidates read texts one after the other, and who is clearly worse than the incumbent reads no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Race", "race"]

Floats = NDArray[np.float64]

#: Texts before anybody may be dropped: an interval of fewer differences is no more than a guess.
_FEWEST = 3
#: Quantiles 0.975 of Student's t for 2, 3, ... degrees of freedom; from 30 on the normal distribution's 1.96 is near.
_T = (4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
      2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Race:
    """What came of a race.

    Attributes:
        losses: ``(candidates, texts)``; NaN where a candidate was dropped before.
        incumbent: the incumbent's, ``(texts,)``.
        order: places of the candidates, the best first: who read all texts, then who was dropped last, and so on.
    """

    losses: Floats
    incumbent: Floats
    order: tuple[int, ...]

    @property
    def dropped(self) -> int:
        """How many candidates did not read all texts."""
        return int(np.isnan(self.losses).any(axis=1).sum())


def race(n: int, n_texts: int, read: Callable[[int | None, int], float]) -> Race:
    """Compare ``n`` candidates with the incumbent, text by text, on the same texts.

    A candidate is dropped when the 95% interval of its mean difference from the incumbent is above 0 (a paired t
    interval, from three texts on), or a loss is not finite. As in racing (Maron and Moore, 1994; irace), what is saved
    is what clear losers would have read.

    Args:
        n: candidates.
        n_texts: texts; the incumbent reads all of them.
        read: the loss of a candidate, or of the incumbent (None), with a text; less is better.
    """
    losses, incumbent = np.full((n, n_texts), np.nan), np.full(n_texts, np.nan)
    alive = list(range(n))
    for text in range(n_texts):
        incumbent[text] = read(None, text)
        for candidate in alive:
            losses[candidate, text] = read(candidate, text)
        seen = slice(0, text + 1)
        alive = [c for c in alive if not _clearly_worse(losses[c, seen] - incumbent[seen])]
    return Race(losses, incumbent, tuple(sorted(range(n), key=lambda c: _key(losses[c], incumbent))))


def _clearly_worse(differences: Floats) -> bool:
    if not np.isfinite(differences).all():
        return True
    n = len(differences)
    if n < _FEWEST:
        return False
    t = _T[n - _FEWEST] if n - _FEWEST < len(_T) else 1.96
    return bool(differences.mean() - t * differences.std(ddof=1) / math.sqrt(n) > 0)


def _key(losses: Floats, incumbent: Floats) -> tuple[int, float]:
    """Who read more texts comes first, then whose mean difference is less."""
    read = ~np.isnan(losses)
    difference = float((losses[read] - incumbent[read]).mean()) if read.any() else math.inf
    return -int(read.sum()), difference if math.isfinite(difference) else math.inf

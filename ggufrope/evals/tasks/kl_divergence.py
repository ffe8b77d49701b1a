"""How far a model's predictions are from those of a baseline, by position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from ggufrope.errors import UsageError
from ggufrope.evals.position_kind import PositionReading, PositionTask
from ggufrope.evals.positions import Means, Reader, divergences, pieces

__all__ = ["KlDivergence"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class KlDivergence(PositionTask):
    """KL(baseline ‖ file) of the predictions for each token of a text, and whether the likeliest one is the same."""

    name: ClassVar[str] = "kl"
    summary: ClassVar[str] = "KL divergence from a baseline file (--baseline) by position, and top-1 agreement"
    compares: ClassVar[bool] = True

    def measure(self, reader: Reader, baseline: Reader | None, reading: PositionReading, progress: Progress) -> Means:
        """See ``PositionTask``."""
        if baseline is None:
            raise UsageError("kl: a baseline is needed; name a file with --baseline")
        texts = pieces(baseline, self.given(), reading.length, reading.limit)
        kl, same = divergences(baseline, reader, texts, reading.edges, progress)
        return replace(kl.means(reading.seed), top1=same.means(reading.seed).mean)

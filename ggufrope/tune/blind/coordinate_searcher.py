"""A ``Searcher`` that moves one number after the other: values of it are read, and the vertex of a parabola taken.

Where many factors are wrong, a slope leads nowhere: at position 200 a fast pair that turns 5% too slowly points
anywhere. Values of one factor, read on the same texts, still show a dip where it is right, as a radio's dial does, even
while others are wrong; each that is put right makes the rest easier to see.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ggufrope.errors import UsageError
from ggufrope.tune.blind.candidate_loss import CandidateLoss, Judge
from ggufrope.tune.runtime_reader import RuntimeReader
from ggufrope.tune.searcher import SearcherState, StepReport, TextsFor
from ggufrope.tune.spaces import Space

__all__ = ["CoordinateSearcher", "next_value"]

Floats = NDArray[np.float64]

#: Where a number is tried, in widths around what it is.
_OFFSETS = np.arange(-3.0, 4.0)
_CENTER = 3
#: Texts, at least, that say something.
_FEWEST = 3
#: A width is at least this: a quarter of a percent of a factor.
_FINEST = 0.0025


class CoordinateSearcher:
    """Coordinate descent (Powell, 1964, without its change of directions), with line searches that know their noise.

    A step is a line search: seven values of one number, evenly spaced, read the same texts, which are those of a whole
    sweep over the numbers; the next sweep has others. It moves where the mean paired difference is more than its
    standard error, and there to the vertex of the parabola through three of the values. Between two values that are
    worse its width is halved, at an end it is doubled. A number that the texts say nothing about mostly stays as it is.

    Stricter rules find less: of 64 texts a few show nearly all of a dip, so that one of 0.057 nats a token, five times
    what was to be gained elsewhere, was 1.6 standard errors deep. What was found is judged on other texts anyway.
    """

    engine: ClassVar[str] = "coordinate"

    def __init__(
        self,
        reader: RuntimeReader,
        space: Space,
        texts_for: TextsFor,
        *,
        seed: int = 0,
        allow: float = 0.01,
        width: float = 0.04,
        blocks: int = 6,
        keep: float = 30.0,
        pull: float = 0.0,
        judge: Judge | None = None,
    ) -> None:
        """Begin at the file as it is.

        Args:
            reader: the file on the runtime.
            space: what is tried.
            texts_for: texts by number, of which a sweep takes ``blocks``.
            seed: of no meaning here: nothing is random but the texts.
            allow: by how much the loss of a text to keep may rise, as a share of itself.
            width: between the first values of a number, in parameters: 0.04 is 4% of a factor.
            blocks: calls of ``texts_for`` for a sweep.
            keep: nats of the objective for each nat a token by which a loss to keep exceeds what is allowed.
            pull: nats for each unit of the mean square of the log factors: towards the file as it is.
            judge: see ``CandidateLoss``.

        Raises:
            UsageError: the space has too many numbers.
            UnsupportedModelError: the file cannot carry the space.
        """
        self._reader, self._space, self._texts_for, self._blocks = reader, space, texts_for, blocks
        self._loss = CandidateLoss(reader, space, allow=allow, keep=keep, pull=pull, judge=judge)
        self._limits = space.limits(reader.layout, reader.file)
        self._theta: Floats = np.array(space.start(reader.layout, reader.file), np.float64)
        self._width, self._widest = np.full_like(self._theta, width), width

    @property
    def theta(self) -> Floats:
        """The candidate, ``(n_parameters,)``. A copy."""
        return np.array(self._theta)

    def advance(self, step: int) -> StepReport:
        """Search along one number: that of the step, one sweep after the other.

        Args:
            step: counted from 0.

        Raises:
            RuntimeLibraryError: the runtime failed; the state is as before.
        """
        begin, before = time.monotonic(), self._reader.tokens
        sweep, at = divmod(step, len(self._theta))
        texts = [text for block in range(self._blocks) for text in self._texts_for(sweep * self._blocks + block)]
        values = np.clip(self._theta[at] + _OFFSETS * self._width[at], *self._limits[at])
        untouched: dict[str, float] = {}
        losses = []
        try:
            for value in values:
                theta = self.theta
                theta[at] = value
                losses.append(self._loss.by_text(texts, self._loss.log_factors(theta), untouched))
        finally:
            self._reader.set(np.zeros(self._reader.layout.size))
        found = np.array(losses)
        if np.isfinite(found[_CENTER]).all():
            self._theta[at], self._width[at] = next_value(values, found, self._width[at], self._widest)
        tokens = self._reader.tokens - before
        return StepReport(step, float(found[_CENTER].mean()), time.monotonic() - begin, tokens, len(values))

    def state(self) -> SearcherState:
        """Parameters and widths; and the space's name."""
        return {
            "theta": self._theta.copy(),
            "width": self._width.copy(),
            "space": np.frombuffer(self._space.name.encode(), np.uint8),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a ``state``.

        Raises:
            UsageError: it is of another space or engine.
        """
        name = np.asarray(state.get("space", ()), np.uint8).tobytes().decode(errors="replace")
        kept = [np.asarray(state.get(part, ())) for part in ("theta", "width")]
        if name != self._space.name or any(part.shape != self._theta.shape for part in kept):
            raise UsageError(
                f"what was kept of a search is of space '{name}', or of another engine, and this one is of "
                f"'{self._space.name}'; begin anew in another place"
            )
        self._theta, self._width = (part.astype(np.float64) for part in kept)


def next_value(values: Floats, losses: Floats, width: float, widest: float) -> tuple[float, float]:
    """Where a line search ends, and the width of the next one along this number.

    Args:
        values: seven, in order; what the number is stands in the middle. At a limit some are equal.
        losses: of each with each text, ``(7, n_texts)``; less is better. Not finite where nothing could be computed.
        width: that ``values`` were made with.
        widest: that it may become.
    """
    mean = np.where(np.isfinite(losses).all(axis=1), losses.mean(axis=1), np.inf)
    best = int(np.argmin(mean))
    if best != _CENTER and not _likely_above(losses[_CENTER] - losses[best]):
        best = _CENTER
    if best in (0, len(values) - 1):  # further on in the next sweep
        return float(values[best]), min(2 * width, widest)
    above = [np.isinf(mean[p]) or _likely_above(losses[p] - losses[best]) for p in (best - 1, best + 1)]
    if best == _CENTER and not any(above):
        return float(values[_CENTER]), width  # the texts do not say
    value = _vertex(values[best - 1 : best + 2], mean[best - 1 : best + 2])
    return value, max(width / 2, _FINEST) if all(above) else width


def _likely_above(differences: Floats) -> bool:
    """Whether the mean is above 0 by more than its standard error; two texts say nothing."""
    n = len(differences)
    return n >= _FEWEST and bool(differences.mean() > differences.std(ddof=1) / math.sqrt(n))


def _vertex(at: Floats, heights: Floats) -> float:
    """Where the parabola through three points is least, half way to the outer ones at most; the middle one is lowest.

    Spacings differ at a limit; where one is 0, or a height is not finite, that is the middle point.
    """
    left, right = float(at[1] - at[0]), float(at[2] - at[1])
    if not (left > 0 and right > 0 and np.isfinite(heights).all()):
        return float(at[1])
    down, up = float(heights[1] - heights[0]) / left, float(heights[2] - heights[1]) / right  # slopes half way
    if up <= down:
        return float(at[1])
    vertex = at[1] - left / 2 - down * (left + right) / 2 / (up - down)
    return float(np.clip(vertex, at[1] - left / 2, at[1] + right / 2))

"""Whether a converted model is worse: the same prompts before and after, their differences with an interval. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ggufrope.evals.intervals import mean_interval

__all__ = ["Finding", "PairedChange", "copying_change", "loss_change"]

#: A loss that rises by more than this share of itself matters.
LOSS_SHARE = 0.01
#: So does a log-likelihood that falls by more than this (nats a token): the right token is 26% less likely.
COPYING_NATS = 0.3


class Finding(str, Enum):
    """What two rows of numbers show.

    ``SLIGHT``: worse for certain, by less than matters. ``UNCLEAR``: worse by as much as matters, but prompts differ so
    much, or are so few, that this may be chance.
    """

    WORSE = "worse"
    SLIGHT = "slightly worse"
    UNCLEAR = "perhaps worse, too few prompts to tell"
    NO_HARM = "no harm shown"
    BETTER = "better"


@dataclass(frozen=True, slots=True)
class PairedChange:
    """A figure before and after.

    Attributes:
        before: mean over prompts, in nats a token.
        after: likewise; NaN or infinite where the model does not compute numbers any more.
        low: of the 95% interval of ``after - before`` over prompts; NaN, as ``high``, where there is none.
        high: likewise.
        finding: what this says.
    """

    before: float
    after: float
    low: float
    high: float
    finding: Finding

    @property
    def difference(self) -> float:
        """``after - before``."""
        return self.after - self.before


def loss_change(before: Sequence[float], after: Sequence[float]) -> PairedChange:
    """The change of losses, one for each prompt; less is better.

    Raises:
        ValueError: no prompts, not as many after as before, or a loss before that is no finite number.
    """
    return _change(before, after, limit=LOSS_SHARE * abs(_mean(before)), sign=1)


def copying_change(before: Sequence[float], after: Sequence[float]) -> PairedChange:
    """The change of log-likelihoods, one for each prompt; more is better.

    Raises:
        ValueError: see ``loss_change``.
    """
    return _change(before, after, limit=COPYING_NATS, sign=-1)


def _change(before: Sequence[float], after: Sequence[float], *, limit: float, sign: int) -> PairedChange:
    if len(before) != len(after):
        raise ValueError(f"{len(before)} prompts before and {len(after)} after; the same ones are compared")
    start, end = _mean(before), _mean(after)
    if not math.isfinite(start):
        raise ValueError(f"the mean before is {start}; it must be a number to compare with")
    low = high = math.nan
    if math.isfinite(end) and len(before) > 1:
        gaps = [b - a for a, b in zip(before, after, strict=True)]
        interval = mean_interval(gaps, [1.0] * len(gaps))
        low, high = interval.low, interval.high
    harm, ends = sign * (end - start), sorted((sign * low, sign * high))
    return PairedChange(start, end, low, high, _finding(harm, ends[0], ends[1], limit))


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("no prompts; give at least one")
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def _finding(harm: float, low: float, high: float, limit: float) -> Finding:
    """The verdict on a mean harm, above 0 where it is one, and its interval."""
    if math.isnan(harm):  # numbers before, none after
        return Finding.WORSE
    if harm > limit:
        return Finding.WORSE if low > 0 else Finding.UNCLEAR  # NaN: no interval
    if low > 0:
        return Finding.SLIGHT
    return Finding.BETTER if harm < -limit and high < 0 else Finding.NO_HARM

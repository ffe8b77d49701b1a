"""Whether a table is worth writing: its gain on the report split with an interval, and what plain text pays. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ggufrope.evals.results import Result
from ggufrope.evals.tasks import kinds
from ggufrope.report.difference import Difference, difference
from ggufrope.tune.constraint import LossRise, within

__all__ = ["Gain", "GoalGain", "better_by", "gain"]


@dataclass(frozen=True, slots=True)
class GoalGain:
    """What a table gives one task at one length.

    Attributes:
        task: its name.
        length: tokens of a text.
        weight: how much it counts.
        change: tuned minus untouched; above 0 is better.
    """

    task: str
    length: int
    weight: float
    change: Difference


@dataclass(frozen=True, slots=True)
class Gain:
    """What a table gives all tasks that it was tuned for.

    Attributes:
        value: the weighted mean of ``parts``; above 0 is better.
        low: of its 95% interval; None, as ``high``, where there is none.
        high: likewise.
        parts: task by task, length by length.
        rises: of the plain-text loss.
        allow: the largest rise that is allowed, as a share of the loss.
    """

    value: float
    low: float | None
    high: float | None
    parts: tuple[GoalGain, ...]
    rises: tuple[LossRise, ...]
    allow: float

    @property
    def shown(self) -> bool:
        """Whether the interval of the gain is above 0."""
        return self.low is not None and self.low > 0

    @property
    def holds(self) -> bool:
        """Whether plain text pays no more than is allowed."""
        return bool(self.rises) and within(self.rises, self.allow)

    @property
    def reason(self) -> str:
        """Why the table is not worth writing; empty where it is."""
        if not self.shown:
            interval = "no interval" if self.low is None else f"its 95% interval is {self.low:+.3f} to {self.high:+.3f}"
            return f"the gain on texts that neither search nor selection has seen is {self.value:+.3f}, {interval}"
        if worse := [p for p in self.parts if p.change.high is not None and p.change.high < 0]:
            return f"{worse[0].task} at {worse[0].length} tokens became worse ({worse[0].change.value:+.3f})"
        if not self.rises:
            return "the loss on plain text could not be compared: the untouched file has none that is finite"
        if not self.holds:
            most = max(self.rises, key=lambda rise: rise.share)
            return f"the loss on plain text rose by {most.text}, and {self.allow:.2%} is allowed"
        return ""


def better_by(a: Result, b: Result) -> Difference | None:
    """``a - b``, with the sign by which above 0 is better; None where one has no finite value."""
    found = difference(a, b)
    if found is None or kinds()[a.kind].higher_is_better:
        return found
    low, high = (None if found.high is None else -found.high), (None if found.low is None else -found.low)
    return Difference(-found.value, low, high, found.how, found.n)


def gain(parts: Sequence[GoalGain], rises: Sequence[LossRise], allow: float) -> Gain:
    """The weighted mean of the parts. Their texts are independent, so that their intervals add as squares do.

    Where intervals are not symmetric, each side is added by itself (Zou and Donner, Stat. Med. 27, 2008).

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("a gain has one task or more")
    total = math.fsum(p.weight for p in parts)
    value = math.fsum(p.weight * p.change.value for p in parts) / total
    if any(p.change.low is None or p.change.high is None for p in parts):
        return Gain(value, None, None, tuple(parts), tuple(rises), allow)
    down = math.hypot(*(p.weight * (p.change.value - (p.change.low or 0.0)) for p in parts)) / total
    up = math.hypot(*(p.weight * ((p.change.high or 0.0) - p.change.value) for p in parts)) / total
    return Gain(value, value - down, value + up, tuple(parts), tuple(rises), allow)

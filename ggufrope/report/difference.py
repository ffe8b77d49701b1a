"""One measurement minus another, with an interval that uses what is known of both.

Where both answered the same questions, the difference is taken question by question and the texts are resampled: what
makes a text hard then counts once and not twice. Otherwise the two intervals are combined as those of independent
measurements (Zou and Donner, Stat. Med. 27, 2008; of two Wilson intervals: Newcombe's method 10, Stat. Med. 17, 1998).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from ggufrope.evals.intervals import bootstrap
from ggufrope.evals.results import Result
from ggufrope.report.study import estimate, text_of

__all__ = ["Difference", "difference", "told_apart"]

# with fewer, chance alone puts all texts on one side more often than once in twenty times (2 / 2^5 = 0.06)
_FEWEST_TEXTS = 6


@dataclass(frozen=True, slots=True)
class Difference:
    """``a - b``.

    Attributes:
        value: of the two overall values.
        low: of its 95% interval; None where there is none; ``high`` likewise.
        how: ``paired`` (bootstrap over texts), ``equal`` (every question scored the same) or ``independent``.
        n: texts, if paired.
    """

    value: float
    low: float | None
    high: float | None
    how: str
    n: int = 0

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def difference(a: Result, b: Result) -> Difference | None:
    """``a - b``; None where one of them has no finite value."""
    first, second = estimate(a), estimate(b)
    if first is None or second is None:
        return None
    mine, theirs = _scores(a), _scores(b)
    if mine and mine.keys() == theirs.keys():
        paired = _paired({name: mine[name] - theirs[name] for name in mine})
        if paired is not None:
            return paired
    value = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Difference(value, None, None, "independent")
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Difference(value, value - down, value + up, "independent")


def told_apart(a: Result, b: Result) -> bool:
    """Whether a difference is shown: the intervals do not overlap, or that of the paired difference excludes zero."""
    first, second = estimate(a), estimate(b)
    if first is None or second is None:
        return False
    gap = difference(a, b)
    return not first.overlaps(second) or (gap is not None and gap.how == "paired" and gap.shown)


def _scores(result: Result) -> dict[str, float]:
    """By question; empty where names are missing or repeat, so that nothing is paired by mistake."""
    examples = result.examples or ()
    scores = {e.name: e.score for e in examples}
    return scores if len(scores) == len(examples) else {}


def _paired(differences: dict[str, float]) -> Difference | None:
    """By bootstrap over texts; None for too few, or where all differ by the same: a bootstrap would claim certainty."""
    texts: dict[str, list[float]] = defaultdict(list)
    for name in sorted(differences):  # the same order of texts gives the same interval
        texts[text_of(name)].append(differences[name])
    value, n = sum(differences.values()) / len(differences), len(texts)
    if not any(differences.values()):
        return Difference(0.0, 0.0, 0.0, "equal", n)
    sums, counts = [sum(d) for d in texts.values()], [len(d) for d in texts.values()]
    means = [s / k for s, k in zip(sums, counts, strict=True)]
    if n < _FEWEST_TEXTS or math.isclose(min(means), max(means)):
        return None
    resampled = bootstrap(sums, counts)
    return Difference(value, resampled.low, resampled.high, "paired", n)

"""One measurement minus another, with an interval that uses what is known of both.

Where both answered the same questions or read the same texts, the difference is taken question by question or text by
text, and its interval is over texts: what makes a text hard then counts once and not twice. Otherwise the two intervals
are combined as those of independent measurements (Zou and Donner, Stat. Med. 27, 2008; of two Wilson intervals:
Newcombe's method 10, Stat. Med. 17, 1998).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from ggufrope.evals.intervals import mean_interval
from ggufrope.evals.results import Result
from ggufrope.report.study import estimate, text_of

__all__ = ["Difference", "difference", "told_apart"]

# With fewer texts of questions, chance alone puts all of them on one side more often than once in twenty times
# (2 / 2^5 = 0.06), whatever an interval says. Losses have so many values that Student's t serves from two texts on.
_FEWEST_TEXTS = 6


@dataclass(frozen=True, slots=True)
class Difference:
    """``a - b``.

    Attributes:
        value: of the two overall values.
        low: of its 95% interval; None where there is none; ``high`` likewise.
        how: ``paired`` (over texts), ``equal`` (every question scored the same) or ``independent``.
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
    paired = _by_question(a, b) or _by_text(a, b)
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


def _by_question(a: Result, b: Result) -> Difference | None:
    """Over texts; None for other questions, for too few, or where all differ by the same: it would claim certainty."""
    mine, theirs = _scores(a), _scores(b)
    if not mine or mine.keys() != theirs.keys():
        return None
    differences = {name: mine[name] - theirs[name] for name in mine}
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
    interval = mean_interval(sums, counts)
    return Difference(value, interval.low, interval.high, "paired", n)


def _by_text(a: Result, b: Result) -> Difference | None:
    """The same of means of texts; None for other texts, for one, or where something is not finite."""
    pairs = list(zip(a.by_text or (), b.by_text or (), strict=False))
    same = len(a.by_text or ()) == len(b.by_text or ()) and all((x.tokens, x.n) == (y.tokens, y.n) for x, y in pairs)
    gaps = [(x.mean - y.mean, x.n) for x, y in pairs if x.mean is not None and y.mean is not None]
    if not same or len(gaps) < 2 or len(gaps) < len(pairs):
        return None
    if not any(gap for gap, _ in gaps):
        return Difference(0.0, 0.0, 0.0, "equal", len(gaps))
    if math.isclose(min(gap for gap, _ in gaps), max(gap for gap, _ in gaps)):  # an interval would claim certainty
        return None
    sums, counts = [gap * n for gap, n in gaps], [n for _, n in gaps]
    interval = mean_interval(sums, counts)
    return Difference(sum(sums) / sum(counts), interval.low, interval.high, "paired", len(gaps))

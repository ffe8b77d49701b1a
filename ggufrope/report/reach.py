"""How far scores reach: up to which length they hold, and where they can tell nothing apart."""

from __future__ import annotations

from collections.abc import Collection

from ggufrope.evals.tasks import TASKS
from ggufrope.report.blocks import Estimate
from ggufrope.report.entries import Entry
from ggufrope.report.study import Group

__all__ = ["EFFECTIVE", "effective_length", "limit_of"]

#: Of the score at the shortest length: what counts as holding.
EFFECTIVE = 0.85
_CEILING = 0.98
_FLOOR = 0.02


def effective_length(group: Group, entry: Entry) -> int | None:
    """The longest length up to which every measured score is at least 85% of that at the shortest one.

    RULER (arXiv 2404.06654) calls effective what stays above one fixed score; a share of the model's own score at a
    short length is fair to small models, too.

    Args:
        group: results of scores, from 0 to 1.
        entry: a file with its KV cache.

    Returns:
        Tokens; None where fewer than two lengths were measured, or the short score is at the floor.
    """
    scores = [(length, v.value) for length in group.lengths if (v := group.get(entry, length)) is not None]
    if len(scores) < 2 or scores[0][0] != group.lengths[0] or scores[0][1] <= _floor(group):
        return None
    reached = scores[0][0]
    for length, score in scores[1:]:
        if score < EFFECTIVE * scores[0][1]:
            break
        reached = length
    return reached


def limit_of(group: Group, values: Collection[Estimate]) -> str:
    """``ceiling`` or ``floor`` where all scores lie there, so that nothing can be compared; else empty."""
    scores = [v.value for v in values] if group.scores else []
    if scores and min(scores) >= _CEILING:
        return "ceiling"
    return "floor" if scores and max(scores) <= _floor(group) else ""


def _floor(group: Group) -> float:
    """What guessing reaches, or what comes to nothing."""
    chance = getattr(TASKS.get(group.any.task), "chance", None)
    return max(_FLOOR, chance(group.any.options)) if chance else _FLOOR

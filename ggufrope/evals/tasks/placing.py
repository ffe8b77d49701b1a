"""Put needles where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["groups", "nearest", "spread"]


def spread(filler: Sequence[str], needles: Sequence[tuple[float, str]], separator: str) -> str:
    """``filler`` with each of the ``needles`` at its depth, between two units.

    A depth is the share of all other text that stands before the needle, in characters: 0 puts it first, 1 last.
    Needles with one depth keep their order. The place is the boundary of units that comes nearest.

    Args:
        filler: units of text, in order.
        needles: (depth, text).
        separator: stands between any two units.
    """
    gap = len(separator)
    waiting = sorted(needles, key=lambda needle: needle[0])[::-1]  # the next one is the last
    total = sum(len(unit) + gap for unit in filler) + sum(len(text) + gap for _, text in needles)
    units: list[str] = []
    passed = 0
    for unit in filler:
        size = len(unit) + gap
        while waiting and waiting[-1][0] * (total - len(waiting[-1][1]) - gap) - passed < size / 2:
            units.append(waiting.pop()[1])
            passed += len(units[-1]) + gap
        units.append(unit)
        passed += size
    units += [text for _, text in reversed(waiting)]
    return separator.join(units)


def nearest(depth: float, n: int) -> int:
    """The place, from 0, among ``n`` that comes nearest to ``depth``: 0 is the first, 1 the last."""
    return min(n - 1, int(depth * (n - 1) + 0.5))


def groups(depths: Sequence[float], size: int) -> list[list[float]]:
    """``depths`` in as few groups as have at most ``size`` of them, each spread over the whole text."""
    n = -(-len(depths) // size)
    return [list(depths[first::n]) for first in range(n)]

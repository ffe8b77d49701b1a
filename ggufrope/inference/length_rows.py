"""Files whose frequencies follow the length: which of their rows serves a prompt, and how far."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["longest_answer", "row_of"]


def row_of(points: Sequence[int], length: int) -> int:
    """The row that serves ``length``: the first whose point is no less, or the last; 0 where there are none."""
    return min(sum(point < length for point in points), max(0, len(points) - 1))


def longest_answer(points: Sequence[int], prompt: int) -> int | None:
    """Tokens that can be written behind ``prompt`` tokens before another row comes to serve; None for no limit.

    The last token of an answer is never read, so it does not count.
    """
    if row_of(points, prompt) >= len(points) - 1:
        return None
    return points[row_of(points, prompt)] - prompt + 1

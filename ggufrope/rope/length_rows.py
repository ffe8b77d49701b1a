"""Which row of factors serves a text, where frequencies follow the length, and up to where.

The rule of docs/keys.md: row k serves the lengths in (points[k-1], points[k]], and the last row whatever is longer. The
runtime has it in C++; ``reference/`` states it again, because an oracle shares nothing with what it checks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ServingRow", "row_for"]


@dataclass(frozen=True, slots=True)
class ServingRow:
    """The row that serves a length.

    Attributes:
        index: its place in the table.
        point: the length in tokens that its factors were made for; None where a table has no length points.
        end: the longest text in tokens that it serves; None for the last row, which serves every longer one.
    """

    index: int
    point: int | None
    end: int | None


def row_for(points: Sequence[int], length: int | None = None) -> ServingRow:
    """The row that serves a text of ``length`` tokens; the last one for None.

    Args:
        points: the table's length points, increasing; empty for a table of one row, which serves every length.
        length: tokens of the text.
    """
    last = max(len(points) - 1, 0)
    index = last if length is None else min(bisect_left(points, length), last)
    point = points[index] if points else None
    return ServingRow(index, point, None if index == last else point)

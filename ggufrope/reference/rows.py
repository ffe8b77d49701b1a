"""Frequencies that depend on the length, as plain data: what a reference rotates with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ggufrope.errors import ParameterError

__all__ = ["LengthRows"]


@dataclass(frozen=True, slots=True)
class LengthRows:
    """Row k holds for lengths in (point[k-1], point[k]], the last one also beyond.

    Attributes:
        points: lengths in tokens, increasing.
        frequencies: radians per token of each pair, one tuple of rot_dim/2 for each point.
        scales: what multiplies cos and sin, one for each point.
    """

    points: tuple[int, ...]
    frequencies: tuple[tuple[float, ...], ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.points) == len(self.frequencies) == len(self.scales) > 0:
            raise ParameterError(
                f"length rows: {len(self.points)} points, {len(self.frequencies)} rows, {len(self.scales)} scales"
            )
        if any(b <= a for a, b in zip((0, *self.points), self.points, strict=False)):
            raise ParameterError(f"length points must increase from 1 on: {list(self.points)}")
        if len({len(row) for row in self.frequencies}) > 1:
            raise ParameterError("length rows: they differ in their number of pairs")
        for value in (*self.scales, *(v for row in self.frequencies for v in row)):
            if not 0 < value < math.inf:
                raise ParameterError(f"length rows: found {value}; every number must be finite and above 0")

    @classmethod
    def from_divisors(
        cls, points: Sequence[int], divisors: Sequence[Sequence[float]], scales: Sequence[float], base: float
    ) -> LengthRows:
        """Rows as ``ggufrope.length_*`` hold them: pair i of rot_dim/2 turns by ``base^(-2i/rot_dim) / divisor``."""
        rows = tuple(tuple(base ** (-i / len(row)) / f for i, f in enumerate(row)) for row in divisors)
        return cls(tuple(points), rows, tuple(map(float, scales)))

    def row(self, length: int) -> int:
        """Index of the row that serves ``length`` tokens."""
        return next((k for k, point in enumerate(self.points) if length <= point), len(self.points) - 1)

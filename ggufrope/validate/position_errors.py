"""Two streams of log-probabilities: how far apart they are at each position, and over ranges of positions."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ggufrope.inference.divergence import Block, in_step

__all__ = ["Bucket", "PositionErrors", "bucket", "compare", "edges"]

_WIDEST = 8192  # positions of one bucket


@dataclass(frozen=True, slots=True, eq=False)
class PositionErrors:
    """What two predictions of the next token differ by, at each of n positions: 24 bytes for each, no logits.

    Attributes:
        kl: ``(n,)`` KL(reference ‖ runtime) in nats.
        max_abs: ``(n,)`` largest |Δ log p| over the whole vocabulary.
        same_top: ``(n,)`` whether the likeliest token is the same.
    """

    kl: Block
    max_abs: Block
    same_top: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bucket:
    """``PositionErrors`` over positions ``start`` ≤ p < ``end``."""

    start: int
    end: int
    mean_kl: float
    max_kl: float
    max_abs: float
    top1: float


def compare(
    reference: Iterable[Block], runtime: Iterable[Block], progress: Callable[[int], None] | None = None
) -> PositionErrors:
    """Compare two streams of ``(positions, n_vocab)`` log-probabilities, cut alike. Holds one block of each.

    ``progress`` is called with the number of positions done.

    Raises:
        ValueError: the streams are not cut alike.
    """
    numbers = array("d")
    for positions in in_step(reference, runtime):
        for position in positions:
            numbers.extend(position)
        if progress:
            progress(len(numbers) // 3)
    columns = np.array(numbers).reshape(-1, 3).T
    return PositionErrors(columns[0], columns[1], columns[2] != 0)


def edges(length: int, original_ctx: int) -> list[int]:
    """Where buckets begin and end: powers of two from 64 on, multiples of 8192, and the original context."""
    powers = {2**k for k in range(6, length.bit_length())} | set(range(_WIDEST, length, _WIDEST))
    return sorted({0, length} | {e for e in powers | {original_ctx} if e < length})


def bucket(errors: PositionErrors, start: int, end: int) -> Bucket:
    """The errors over a range of positions; NaN anywhere stays NaN."""
    part = slice(start, end)
    return Bucket(
        start,
        end,
        float(errors.kl[part].mean()),
        float(errors.kl[part].max()),
        float(errors.max_abs[part].max()),
        float(errors.same_top[part].mean()),
    )

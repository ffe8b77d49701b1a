"""Two streams of log-probabilities: how far apart they are at each position, and over ranges of positions."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Bucket", "PositionErrors", "bucket", "compare", "edges"]

_WIDEST = 8192  # positions of one bucket
Block = npt.NDArray[np.float64]


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
    found = array("d")
    left_blocks, right_blocks = iter(reference), iter(runtime)
    while (left := next(left_blocks, None)) is not None:
        right = next(right_blocks, None)
        if right is None:
            raise ValueError("the second stream is shorter than the first")
        for row, other in zip(left, right, strict=True):
            found.extend(_errors(row, other))
        del left, right, row, other  # or both blocks would wait for the next ones
        if progress:
            progress(len(found) // 3)
    if next(right_blocks, None) is not None:
        raise ValueError("the first stream is shorter than the second")
    columns = np.array(found).reshape(-1, 3).T
    return PositionErrors(columns[0], columns[1], columns[2] != 0)


def _errors(left: Block, right: Block) -> tuple[float, float, bool]:
    """Of one position: a row at a time stays in the processor's cache, and needs no third block."""
    gap = left - right
    return float(np.exp(left) @ gap), float(np.abs(gap).max()), bool(left.argmax() == right.argmax())


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

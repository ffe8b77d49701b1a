"""Log-probabilities of the next token, and how far two of them are apart: the numeric core of ``kl`` and ``validate``.

Everything goes a row (one position, the whole vocabulary) at a time: it stays in the processor's cache, and a block of
rows needs no second one of its size beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Block", "Divergence", "divergence", "in_step", "log_probs_at", "log_softmax"]

#: ``(positions, n_vocab)`` log-probabilities in nats; or one row of them.
Block = npt.NDArray[np.float64]


class Divergence(NamedTuple):
    """What two predictions at one position differ by.

    Attributes:
        kl: KL(first ‖ second) in nats; a token that the first finds impossible adds nothing.
        max_abs: largest |Δ log p| over the vocabulary; NaN where both find a token impossible.
        same_top: whether the likeliest token is the same.
    """

    kl: float
    max_abs: float
    same_top: bool


def log_softmax(logits: npt.NDArray[np.float32]) -> Block:
    """Log-probabilities of each row of logits, in double precision."""
    values: Block = logits.astype(np.float64)
    for i in range(len(values)):
        values[i] -= values[i].max()
        values[i] -= np.log(np.exp(values[i]).sum())
    return values


def log_probs_at(logits: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Of each row of logits the log-probability of one token, as ``log_softmax`` has it to the bit, ``(rows,)``."""
    own_log_probs = np.empty(len(logits), np.float64)
    for i, token in enumerate(tokens):
        row = logits[i].astype(np.float64)
        row -= row.max()
        own = row[token]
        own_log_probs[i] = own - np.log(np.exp(row, out=row).sum())
    return own_log_probs


def divergence(first: Block, second: Block) -> Divergence:
    """Compare two rows of log-probabilities, ``(n_vocab,)``. NaN in either is NaN in the result."""
    terms = np.exp(first)
    with np.errstate(invalid="ignore"):
        gap = first - second
        terms *= gap  # and summed up without BLAS, whose threads take twenty times as long on a busy machine
        kl = terms.sum()
    if np.isnan(kl):  # 0 · (-inf - -inf), or a NaN that came in and stays
        kl = terms[first != -np.inf].sum()
    np.abs(gap, out=gap)
    return Divergence(float(kl), float(gap.max()), bool(first.argmax() == second.argmax()))


def in_step(first: Iterable[Block], second: Iterable[Block]) -> Iterator[list[Divergence]]:
    """Compare two streams of blocks, cut alike: for each block, its positions. Holds one block of each stream.

    Raises:
        ValueError: the streams are not cut alike.
    """
    lefts, rights = iter(first), iter(second)
    while (left := next(lefts, None)) is not None:
        right = next(rights, None)
        if right is None:
            raise ValueError("the second stream is shorter than the first")
        positions = [divergence(*rows) for rows in zip(left, right, strict=True)]
        del left, right  # or both blocks would wait for the next ones
        yield positions
    if next(rights, None) is not None:
        raise ValueError("the first stream is shorter than the second")

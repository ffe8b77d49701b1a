"""What a table may cost: how far the loss on plain text rises above that of the untouched file. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["LossRise", "rises", "within"]


@dataclass(frozen=True, slots=True)
class LossRise:
    """The loss on plain text of one length, before and after, in nats a token.

    Attributes:
        length: tokens of a text.
        before: mean over texts, untouched.
        after: of the candidate; NaN or infinite where the model computes no numbers any more.
        texts: how many.
    """

    length: int
    before: float
    after: float
    texts: int

    @property
    def share(self) -> float:
        """How much it rose, as a share of what it was; below 0 where it fell."""
        return (self.after - self.before) / self.before if math.isfinite(self.after) else math.inf

    @property
    def text(self) -> str:
        """For people: ``+0.4% at 1024 tokens``."""
        share = f"{self.share:+.2%}" if math.isfinite(self.share) else "not finite"
        return f"{share} at {self.length} tokens"


def rises(before: Mapping[int, Sequence[float]], after: Mapping[int, Sequence[float]]) -> tuple[LossRise, ...]:
    """The rise at each length.

    Args:
        before: by length, the losses of the texts, untouched.
        after: of the same texts.

    Raises:
        ValueError: other texts, or none.
    """
    if before.keys() != after.keys() or any(len(before[n]) != len(after[n]) or not before[n] for n in before):
        raise ValueError("the same texts are compared, one or more of each length")
    return tuple(
        LossRise(n, math.fsum(before[n]) / len(before[n]), sum(after[n]) / len(after[n]), len(before[n]))
        for n in sorted(before)
    )


def within(found: Sequence[LossRise], allow: float) -> bool:
    """Whether the loss rose nowhere by more than ``allow``, a share of itself."""
    return all(rise.share <= allow for rise in found)

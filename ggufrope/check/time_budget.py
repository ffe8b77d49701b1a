"""How many prompts of which length two models can read in a given time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["LENGTHS", "SAMPLE", "affordable", "reading_speed"]

#: Lengths of prompts, and how many of each are read at most. The first length of which enough fit is taken: a longer
#: prompt says more about the middle, and below six prompts an interval is wide.
LENGTHS = {1024: 8, 512: 8, 256: 8, 128: 12, 64: 12}
_ENOUGH = 6
_LAST_RESORT = 4  # of the shortest length

#: Tokens that the speed is measured with, at most.
SAMPLE = 256
_WARMING, _TIMED = 16, (64, SAMPLE)
_SHORT_SECONDS = 1.0


def affordable(tokens: float, longest: int) -> int | None:
    """The length of prompts.

    Args:
        tokens: that each model can read in time.
        longest: tokens of the longest prompt that makes sense for the model.

    Returns:
        None where not even a few short prompts fit.
    """
    lengths = [length for length in LENGTHS if length <= longest]
    shortest = min(LENGTHS)
    found = next((length for length in lengths if _ENOUGH * length <= tokens), None)
    return shortest if found is None and shortest <= longest and _LAST_RESORT * shortest <= tokens else found


def reading_speed(read: Callable[[Sequence[int]], object], ids: Sequence[int]) -> float:
    """Tokens a second.

    Args:
        read: reads a prompt.
        ids: some tokens, 64 or more. A few are read for nothing first, since weights may have to come from a disk.
    """
    read(ids[:_WARMING])
    for n in _TIMED:
        start = time.monotonic()
        read(ids[:n])
        seconds = max(time.monotonic() - start, 1e-6)
        if seconds > _SHORT_SECONDS:  # long enough to be measured
            break
    return len(ids[:n]) / seconds

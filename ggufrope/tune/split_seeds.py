"""Which seed a split's texts have: fresh texts for every step, and none that another split has."""

from __future__ import annotations

import hashlib

__all__ = ["REPORT", "SELECT", "TRAIN", "split_seed"]

#: The splits, as ``plain_text.SHARES`` has them: what steps learn from; what chooses between candidates; what judges.
TRAIN, SELECT, REPORT = "train", "select", "report"


def split_seed(seed: int, split: str, step: int = 0) -> int:
    """The random seed of a split's texts, or of a step's; below 2^31. No two splits or steps share one on purpose.

    Args:
        seed: of the run.
        split: one of the three.
        step: of training, counted from 0.
    """
    digest = hashlib.sha256(f"tune {seed} {split} {step}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1

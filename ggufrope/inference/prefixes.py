"""Which prompts share how much: pure arithmetic on tokens, no model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Family", "common_prefix", "families"]

#: Tokens that a family may read more than once: less work than another pass over the weights.
_TWICE = 64


@dataclass(frozen=True, slots=True)
class Family:
    """Prompts that are evaluated side by side behind a common beginning.

    Attributes:
        members: places in the list that was given to ``families``.
        common: tokens that they share and that are evaluated once; less than any of them has.
    """

    members: tuple[int, ...]
    common: int


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens ``a`` and ``b`` have in common from their start."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differ[0]) if differ.size else n


def families(prompts: Sequence[Sequence[int]], longest: Sequence[int]) -> list[Family]:
    """All ``prompts``, in an order in which each finds the longest beginning that one before it has left in the cache.

    That order is the sorted one: of all earlier prompts the one before has the longest common prefix. Neighbours make a
    family while that costs at most 64 tokens read twice.

    Args:
        prompts: tokens.
        longest: of each prompt, how much may be taken from the cache: less than all of it, as the end gives logits.
    """
    order = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i]))
    most = [longest[i] for i in order]
    shared = [common_prefix(prompts[a], prompts[b]) for a, b in itertools.pairwise(order)]
    shared = [min(n, *most[k : k + 2]) for k, n in enumerate(shared)]
    groups, start = [], 0
    while start < len(order):
        end, common = _family_from(start, most, shared)
        groups.append(Family(tuple(order[start:end]), common))
        start = end
    return groups


def _family_from(start: int, most: Sequence[int], shared: Sequence[int]) -> tuple[int, int]:
    """Where the family of the sorted prompts from ``start`` ends, and what it shares.

    ``shared[k]`` is what the sorted prompts k and k + 1 have in common.
    """
    end, common = start + 1, most[start]
    while end < len(most):
        smaller = min(common, shared[end - 1])
        # what two neighbours share behind the family's common beginning is read by each of them
        if sum(shared[start:end]) - smaller * (end - start) > _TWICE:
            break
        end, common = end + 1, smaller
    if end == start + 1:  # nobody beside it: keep what its neighbours in the order can use
        common = min(common, max(shared[max(0, start - 1) : end], default=0))
    return end, common

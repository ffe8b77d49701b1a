"""``full``: a factor for each pair of each KV head of each layer."""

from __future__ import annotations

import math

from ggufrope.tune.spaces.space import TiedSpace

__all__ = ["Full"]


class Full(TiedSpace):
    """All that ``ggufrope.pair_factors`` can say. Thousands of numbers: for a gradient, not for a blind search."""

    name = "full"
    summary = "a factor for each pair of each KV head of each layer"
    paper = ""
    shape = "[layer, head, pair]"
    bounds = (-math.log(4), math.log(4))
    by_layer = by_head = by_pair = True

"""``pairs``: a factor for each pair, the same in all layers and heads."""

from __future__ import annotations

import math

from ggufrope.tune.spaces.space import TiedSpace

__all__ = ["Pairs"]


class Pairs(TiedSpace):
    """LongRoPE's shape, searched by evolution there. Upstream's keys can carry it on several architectures."""

    name = "pairs"
    summary = "a factor for each pair, the same in all layers and heads"
    paper = "LongRoPE, arXiv 2402.13753"
    shape = "[pair]"
    bounds = (-math.log(8), math.log(8))
    by_pair = True

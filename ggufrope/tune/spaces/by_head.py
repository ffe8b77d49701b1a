"""``heads``: a factor for each KV head of each layer, the same for all of its pairs."""

from __future__ import annotations

import math

from ggufrope.tune.spaces.space import TiedSpace

__all__ = ["Heads"]


class Heads(TiedSpace):
    """Ms-PoE's shape, where ratios from 1.2 to 1.8 are handed out by a score of heads; here they are learned."""

    name = "heads"
    summary = "a factor for each KV head of each layer, the same for all of its pairs"
    paper = "Ms-PoE, arXiv 2403.04797"
    shape = "[layer, head]"
    bounds = (-math.log(4), math.log(4))
    by_layer = by_head = True

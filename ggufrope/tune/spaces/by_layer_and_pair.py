"""``layer-pairs``: a factor for each pair of each layer, the same in all of its heads."""

from __future__ import annotations

import math

from ggufrope.tune.spaces.space import TiedSpace

__all__ = ["LayerPairs"]


class LayerPairs(TiedSpace):
    """What LongRoPE and layer-specific scaling have in common: neither tried both at once."""

    name = "layer-pairs"
    summary = "a factor for each pair of each layer, the same in all of its heads"
    paper = "after arXiv 2402.13753 and 2503.04355"
    shape = "[layer, pair]"
    bounds = (-math.log(4), math.log(4))
    by_layer = by_pair = True

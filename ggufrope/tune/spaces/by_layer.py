"""``layers``: a factor for each layer, the same for all of its heads and pairs."""

from __future__ import annotations

import math

from ggufrope.tune.spaces.space import TiedSpace

__all__ = ["Layers"]


class Layers(TiedSpace):
    """Layer-specific scaling's shape, whose authors search it by a genetic algorithm."""

    name = "layers"
    summary = "a factor for each layer, the same for all of its heads and pairs"
    paper = "layer-specific scaling (LPES), arXiv 2503.04355"
    shape = "[layer]"
    bounds = (-math.log(4), math.log(4))
    by_layer = True

"""``layer-curve``: a factor for each layer, on a curve of four numbers."""

from __future__ import annotations

import math

import numpy as np

from ggufrope.tune.layout import PairLayout
from ggufrope.tune.spaces.space import CurveSpace, Floats

__all__ = ["LayerCurve"]


class LayerCurve(CurveSpace):
    """Layer-specific scaling with its authors' own reduction: a Bézier curve over the layers."""

    name = "layer-curve"
    summary = "a factor for each layer, on a Bézier curve over the layers"
    paper = "layer-specific scaling (LPES), arXiv 2503.04355"
    shape = "[control point]: 4 numbers"
    bounds = (-math.log(4), math.log(4))

    def place(self, layout: PairLayout) -> Floats:
        """See ``CurveSpace``: the first layer that may be moved is at 0, the last one at 1."""
        rank = {layer: n for n, layer in enumerate(layout.leaders)}
        by_layer = [rank[layout.leader[i]] if free else np.nan for i, free in enumerate(layout.free)]
        return np.array(by_layer)[layout.coordinates()[:, 0]] / max(len(rank) - 1, 1)

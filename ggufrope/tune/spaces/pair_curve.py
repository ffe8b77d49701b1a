"""``pair-curve``: a factor for each pair, on a curve of four numbers."""

from __future__ import annotations

import math

import numpy as np

from ggufrope.tune.layout import PairLayout
from ggufrope.tune.spaces.space import CurveSpace, Floats

__all__ = ["PairCurve"]


class PairCurve(CurveSpace):
    """LongRoPE's shape with few numbers: factors that change smoothly from the fastest pair to the slowest."""

    name = "pair-curve"
    summary = "a factor for each pair, on a Bézier curve from the fastest pair to the slowest"
    paper = "after LongRoPE, arXiv 2402.13753"
    shape = "[control point]: 4 numbers"
    bounds = (-math.log(8), math.log(8))

    def place(self, layout: PairLayout) -> Floats:
        """See ``CurveSpace``: the fastest pair is at 0, the slowest at 1."""
        layer, _, pair = layout.coordinates().T
        return np.where(np.array(layout.free)[layer], pair / max(layout.n_pairs - 1, 1), np.nan)

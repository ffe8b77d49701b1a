"""The one table of spaces. A new one is one file here and one line in ``SPACES``."""

from __future__ import annotations

from ggufrope.errors import UsageError
from ggufrope.methods import METHODS
from ggufrope.text import did_you_mean
from ggufrope.tune.spaces.by_head import Heads
from ggufrope.tune.spaces.by_head_and_pair import Full
from ggufrope.tune.spaces.by_layer import Layers
from ggufrope.tune.spaces.by_layer_and_pair import LayerPairs
from ggufrope.tune.spaces.by_pair import Pairs
from ggufrope.tune.spaces.layer_curve import LayerCurve
from ggufrope.tune.spaces.method_numbers import MethodNumbers
from ggufrope.tune.spaces.pair_curve import PairCurve
from ggufrope.tune.spaces.space import CurveSpace, Space, TiedSpace

__all__ = ["SPACES", "CurveSpace", "Space", "TiedSpace", "space_named"]

_ALL: tuple[Space, ...] = (
    Pairs(),
    Layers(),
    Heads(),
    LayerPairs(),
    Full(),
    LayerCurve(),
    PairCurve(),
    *(MethodNumbers(cls) for cls in METHODS.values() if cls.traits.numbers),
)

SPACES: dict[str, Space] = {space.name: space for space in _ALL}


def space_named(name: str) -> Space:
    """The space called ``name``.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    if name not in SPACES:
        hint = did_you_mean(name, SPACES, f"it is one of {', '.join(SPACES)}")
        raise UsageError(f"--space {name}: unknown: {hint}")
    return SPACES[name]

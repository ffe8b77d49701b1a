"""What a file that ggufrope converted has beneath a new table: a base method, and what an earlier table changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufrope.methods import PLAIN, scaling_method
from ggufrope.methods.fitted import fit
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable

__all__ = ["EarlierTable", "base_of"]

Floats = NDArray[np.float64]

_STORED = 1e-6  # of a frequency; a file holds float32


def base_of(file: ModelFile) -> tuple[str, dict[str, Any]]:
    """The method that decides about a file's scaling, where ggufrope wrote it, and its parameters; else the plain one.

    What the file declared before any conversion stays beneath a table as it is.
    """
    decoded = file.decoded
    if not decoded.ours:
        return PLAIN, {}
    scaling = scaling_method(decoded.method)
    if scaling.traits.keeps_scaling or scaling.name == PLAIN:
        return PLAIN, {}
    return scaling.name, dict(decoded.params.get("base", decoded.params))


@dataclass(frozen=True, slots=True)
class EarlierTable:
    """What an earlier table has all heads share, on top of the base; a new one has to say it again.

    What it said of single heads or layers is in the pair factors of the file. Factors of pairs alone, and the attention
    scale, are not: stock llama.cpp has places for them.

    Attributes:
        factors: by layer, for each pair, ``(n_pairs,)``; 1 where there was none.
        attn_scale: that it multiplied with.
    """

    factors: tuple[Floats, ...]
    attn_scale: float

    @classmethod
    def of(cls, file: ModelFile) -> EarlierTable:
        """Of a file, by what it declares and what its base alone would.

        Raises:
            GgufropeError: see ``fit`` and ``ModelFile.decoded``.
        """
        model, now = file.decoded.model, file.decoded.table.without_heads()
        base, plain = _base(file)
        found = []
        for layer in range(model.n_layer):
            share = base.frequencies(plain, layer) / now.frequencies(model, layer)
            found.append(np.where(np.abs(share - 1) < _STORED, 1.0, share))
        scale = now.scale(model) / base.scale(plain)  # of layers without a sliding window
        return cls(tuple(found), 1.0 if abs(scale - 1) < _STORED else float(scale))


def _base(file: ModelFile) -> tuple[RopeTable, ModelRope]:
    """What the base alone would have all heads share, and the model that this is relative to.

    Not the converted file's: factors that it loads as the model's own may be those of the earlier table.
    """
    name, params = base_of(file)
    if name == PLAIN:
        return file.before.table.without_heads(), file.before.model
    source = file.original
    return fit(name, params, source.model, source.stock).table.without_heads(), source.model

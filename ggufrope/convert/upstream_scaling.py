"""Whether the GGUF that llama.cpp's converter wrote rotates as the checkpoint's configuration asks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ggufrope.convert.checkpoint import HfRope
from ggufrope.errors import CheckpointError
from ggufrope.gguf import keys
from ggufrope.methods import PLAIN, resolve, scaling_method
from ggufrope.methods.fitted import table_of
from ggufrope.modelfile.original import Source

__all__ = ["written_as_declared"]

_RTOL = 1e-5


def written_as_declared(source: Source, declared: HfRope) -> bool:
    """Whether what upstream's converter wrote rotates as the configuration asks.

    Raises:
        CheckpointError: it wrote factors into a tensor that are not the ones asked for.
    """
    model, stock = source.model, source.stock
    if declared.left_to_upstream or keys.stock(keys.YARN_LOG_MUL, model.arch) in source:
        return True
    plain = replace(model, own_factors=())
    base = replace(plain, original_ctx=int(declared.params.get("original_context", model.original_ctx)))
    name = declared.method or PLAIN
    wanted = table_of(resolve(name, declared.params, base), base, scaling_method(name).traits)
    written = stock.table(model)
    if wanted.n_rows > 1:
        return False  # even where the numbers are there, stock picks by the allocated context
    if written.n_rows == 1 and all(
        np.allclose(written.frequencies(model, layer), wanted.frequencies(plain, layer), rtol=_RTOL, atol=0)
        and np.isclose(written.scale(model, layer), wanted.scale(plain, layer), rtol=_RTOL, atol=0)
        for layer in model.one_of_each_kind()
    ):
        return True
    if model.own_factors:
        raise CheckpointError(f"{source.path}: the converter wrote other {keys.ROPE_FREQS} than config.json asks for")
    return False

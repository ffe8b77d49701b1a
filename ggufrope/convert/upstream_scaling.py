"""Whether the GGUF that llama.cpp's converter wrote rotates as the checkpoint's configuration asks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ggufrope.convert.checkpoint import HfRope
from ggufrope.errors import CheckpointError
from ggufrope.gguf import keys
from ggufrope.methods import PLAIN, resolve
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
    wanted, written = resolve(declared.method or PLAIN, declared.params, base).table(base), stock.table(model)
    if wanted.n_rows > 1:
        return False  # even where the numbers are there, stock picks by the allocated context
    own = np.asarray(model.own_factors) if model.own_factors else np.ones(model.n_pairs)
    if wanted.factors.shape == written.factors.shape:
        close = np.allclose(written.factors * own, wanted.factors, rtol=_RTOL, atol=0)
        if close and np.allclose(written.attn_scale, wanted.attn_scale, rtol=_RTOL, atol=0):
            return True
    if model.own_factors:
        raise CheckpointError(f"{source.path}: the converter wrote other {keys.ROPE_FREQS} than config.json asks for")
    return False

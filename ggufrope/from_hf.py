"""From a Hugging Face directory to a converted GGUF: weights, the configuration's own scaling, then a method."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ggufrope import hf, keys
from ggufrope.convert import Plan, plan
from ggufrope.errors import CheckpointError, OutputError
from ggufrope.facts import read_model, read_stock
from ggufrope.methods import resolve
from ggufrope.methods.ms_poe import MsPoe
from ggufrope.source import Source, open_source

__all__ = ["planned"]


@contextmanager
def planned(
    directory: Path,
    out: Path,
    name: str | None,
    params: Mapping[str, Any],
    context: int | None = None,
    outtype: str = "auto",
    require_patched: bool = False,
) -> Iterator[tuple[Path, Plan | None, tuple[str, ...]]]:
    """Convert the weights to a temporary GGUF beside ``out`` and plan what remains to be done with it.

    Args:
        directory: the Hugging Face directory.
        out: where the result will go; the temporary file is on the same file system.
        name: the method, see ``convert.plan``; None means what ``config.json`` says.
        params: its parameters.
        context: target context in tokens, or None.
        require_patched: see ``convert.plan``.
        outtype: see ``hf.convert_weights``.

    Yields:
        The temporary GGUF, the plan (None when the GGUF is right as it is), and notes for a person.

    Raises:
        CheckpointError: the directory cannot be converted, or asks for what nothing here can honour.
    """
    asked = hf.read_rope(directory)
    keeps = name is None or name == MsPoe.name
    if keeps and asked.refused:
        raise CheckpointError(asked.refused)
    with _beside(out) as folder:
        weights = folder / "weights.gguf"
        hf.convert_weights(directory, weights, outtype)
        notes: tuple[str, ...] = ()
        if keeps:
            done, note = _honoured(open_source(weights), asked)
            notes = (note,) if note else ()
            exact = require_patched or not note
            if not done and exact:
                name = f"{name}+{asked.method}" if name else asked.method
                params = {**asked.params, **{k: v for k, v in params.items() if v is not None}}
        elif asked.method or asked.refused:
            notes = (f"config.json's own scaling ({asked.method or 'dynamic'}) is replaced by {name}",)
        yield weights, plan(weights, name, params, context, require_patched) if name else None, notes


def _honoured(source: Source, asked: hf.HfRope) -> tuple[bool, str]:
    """Whether upstream's converter wrote what was asked for; a note when only the patched runtime could do better."""
    model, stock = read_model(source), read_stock(source)
    if asked.left_to_upstream or keys.stock(keys.YARN_LOG_MUL, model.arch) in source:
        return True, ""
    plain = replace(model, own_factors=())
    base = replace(plain, original_ctx=int(asked.params.get("original_context", model.original_ctx)))
    written = stock.table(model)
    own = np.asarray(model.own_factors) if model.own_factors else 1.0
    method = resolve(asked.method or "none", asked.params, base)
    wanted = method.table(base)
    if wanted.factors.shape == written.factors.shape:
        gap = float(np.abs(written.factors * own / wanted.factors - 1).max())
        scale_gap = float(np.abs(written.attn_scale / wanted.attn_scale - 1).max())
        if gap < 1e-5 and scale_gap < 1e-5:
            return True, ""
        as_stock = method.stock(base)
        if stock.scaling_type == asked.method and not (as_stock and as_stock.table(base).close_to(wanted)):
            return False, (
                f"stock llama.cpp's {asked.method} differs from config.json's by up to {gap:.1%} in frequency; "
                "the file follows stock. Add --require-patched for the exact one, on the patched runtime only"
            )
    if model.own_factors:
        raise CheckpointError(f"{source.path}: the converter wrote other {keys.ROPE_FREQS} than config.json asks for")
    return False, ""


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}-")
    except OSError as error:
        raise OutputError(f"{out}: cannot write there ({error.strerror}); choose another directory") from None
    with folder as name:
        yield Path(name)

"""From a Hugging Face directory to a converted GGUF: weights, the configuration's own scaling, then a method."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ggufrope.convert import checkpoint
from ggufrope.convert.conversion import Conversion, plan
from ggufrope.convert.trained_layers import solve_layer
from ggufrope.errors import CheckpointError, NotHonouredError, OutputError, UsageError
from ggufrope.gguf import keys
from ggufrope.methods import PLAIN, resolve, scaling_method
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.original import Source
from ggufrope.rope.model import ModelRope

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
) -> Iterator[tuple[ModelFile, Conversion | None, tuple[str, ...]]]:
    """Convert the weights to a temporary GGUF beside ``out`` and plan what remains to be done with it.

    Args:
        directory: the Hugging Face directory.
        out: where the result will go; the temporary file is on the same file system.
        name: the method, see ``convert.plan``; None means what ``config.json`` says.
        params: its parameters.
        context: target context in tokens, or None.
        require_patched: see ``convert.plan``.
        outtype: see ``checkpoint.convert_weights``.

    Yields:
        The temporary GGUF, the plan (None when the GGUF is right as it is), and notes for a person.

    Raises:
        CheckpointError: the directory cannot be converted, or asks for what nothing here can honour.
    """
    scaling, declared = scaling_method(name) if name else None, checkpoint.read_rope(directory)
    keeps = scaling is None or scaling.traits.keeps_scaling
    same = scaling is not None and scaling.name == declared.method
    if keeps or same:
        declared = _with_layer(directory, declared)
    given = {k: v for k, v in params.items() if v is not None}
    if keeps and declared.refused:
        raise CheckpointError(declared.refused)
    if name is None and (given or context) and not declared.method:
        flags = ", ".join("--" + k.replace("_", "-") for k in given) or "--context"
        raise UsageError(f"{flags}: config.json asks for no scaling that this could change; add --method M")
    with _beside(out) as folder:
        path = folder / "weights.gguf"
        checkpoint.convert_weights(directory, path, outtype, declared.traits.layer_tensors)
        weights = ModelFile.open(path)
        notes: tuple[str, ...] = ()
        if same and declared.traits.trained_layer:
            params = {**declared.params, **given}
        elif not keeps and (declared.method or declared.refused):
            new = "one with the parameters given here" if name == declared.method else name
            notes = (f"config.json's own scaling ({declared.method or 'another'}) is replaced by {new}",)
        elif keeps and (given or context or not _agrees(weights.original, declared)) and declared.method:
            inherited = {k: v for k, v in declared.params.items() if k != "factor" or context is None}
            name = f"{name}+{declared.method}" if name else declared.method
            params = {**inherited, **given}
            params, notes = _feasible(weights, name, params, context, require_patched)
        elif name is None and require_patched:
            name = _declared(weights.original, declared)
            params = declared.params if name == declared.method else {}
        yield weights, plan(weights, name, params, context, require_patched) if name else None, notes


def _with_layer(directory: Path, declared: checkpoint.HfRope) -> checkpoint.HfRope:
    """``declared`` with the solution of the layer that was trained with the model, where its method has one."""
    layer = declared.traits.trained_layer
    return replace(declared, params={layer: solve_layer(layer, directory)}) if layer else declared


def _agrees(source: Source, declared: checkpoint.HfRope) -> bool:
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
        close = np.allclose(written.factors * own, wanted.factors, rtol=1e-5, atol=0)
        if close and np.allclose(written.attn_scale, wanted.attn_scale, rtol=1e-5, atol=0):
            return True
    if model.own_factors:
        raise CheckpointError(f"{source.path}: the converter wrote other {keys.ROPE_FREQS} than config.json asks for")
    return False


def _feasible(
    weights: ModelFile, name: str, params: Mapping[str, Any], context: int | None, require_patched: bool
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """``params``, less what only the patched runtime could do where stock must keep its scaling, and a note on it."""
    try:
        plan(weights, name, params, context, require_patched)
    except NotHonouredError:
        coarse = {k: v for k, v in params.items() if k not in scaling_method(name).traits.patched_only}
        if coarse == params:
            raise
        exact = resolve(name, params, model := _unscaled(weights), context).table(model).factors
        gap = float(np.abs(resolve(name, coarse, model, context).table(model).factors / exact - 1).max())
        return coarse, (
            f"llama.cpp's YaRN ignores config.json's ramp for {model.arch}: frequencies differ by up to {gap:.1%}; "
            "--require-patched gives the exact ones, on the patched runtime only",
        )
    return params, ()


def _unscaled(weights: ModelFile) -> ModelRope:
    model = weights.original.model
    return replace(model, train_ctx=model.original_ctx)


def _declared(source: Source, declared: checkpoint.HfRope) -> str:
    """The method whose plan leaves a converted file's rotation as it is."""
    if declared.left_to_upstream:
        raise UsageError(f"--require-patched: add --method (ms-poe, say); {source.architecture}'s own scaling stays")
    return PLAIN if declared.method is None or source.has_tensor(keys.ROPE_FREQS) else declared.method


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}-")
    except OSError as error:
        raise OutputError(f"{out}: cannot write there ({error.strerror}); choose another directory") from None
    with folder as name:
        yield Path(name)

"""From a Hugging Face directory to a GGUF with llama.cpp's own converter, and what remains to be done with that."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ggufrope.convert.checkpoint import HfRope, convert_weights
from ggufrope.convert.prepared import Prepared
from ggufrope.convert.trained_layers import declared_rope
from ggufrope.convert.upstream_scaling import written_as_declared
from ggufrope.errors import CheckpointError, OutputError, UsageError
from ggufrope.files import real_path
from ggufrope.gguf import keys
from ggufrope.methods import PLAIN, scaling_method
from ggufrope.modelfile.model_file import ModelFile

if TYPE_CHECKING:
    from ggufrope.convert.request import ConvertRequest

__all__ = ["from_directory"]


@contextmanager
def from_directory(request: ConvertRequest) -> Iterator[Prepared]:
    """Convert the weights to a temporary GGUF beside the output, and decide what remains to be done with it.

    Args:
        request: its source is the directory; its method None means what ``config.json`` says.

    Yields:
        The temporary GGUF, and the method that it needs; None when it is right as it is.

    Raises:
        CheckpointError: the directory cannot be converted, or asks for what nothing here can honour.
        UsageError: parameters for a scaling that ``config.json`` does not ask for.
        OutputError: the weights cannot be written beside the output.
    """
    declared = declared_rope(request.source, request.method)
    _require_sense(request, declared)
    with _beside(request.output) as folder:
        weights = folder / "weights.gguf"
        convert_weights(request.source, weights, request.outtype or "auto", declared.traits.layer_tensors)
        yield _what_remains(request, declared, ModelFile.open(weights))


def _require_sense(request: ConvertRequest, declared: HfRope) -> None:
    keeps = request.method is None or scaling_method(request.method).traits.keeps_scaling
    if keeps and declared.refused:
        raise CheckpointError(declared.refused)
    given = [k for k, v in request.params.items() if v is not None]
    if request.method is None and (given or request.context) and not declared.method:
        flags = ", ".join("--" + k.replace("_", "-") for k in given) or "--context"
        raise UsageError(f"{flags}: config.json asks for no scaling that this could change; add --method M")


def _what_remains(request: ConvertRequest, declared: HfRope, weights: ModelFile) -> Prepared:
    """The method that makes of the converter's GGUF what was asked for."""
    name, scaling = request.method, scaling_method(request.method) if request.method else None
    given = {k: v for k, v in request.params.items() if v is not None}
    if scaling is not None and not scaling.traits.keeps_scaling:
        if scaling.name == declared.method and scaling.traits.trained_layer:
            return Prepared(weights, name, {**declared.params, **given}, temporary=True)
        new = "one with the parameters given here" if name == declared.method else name
        note = f"config.json's own scaling ({declared.method or 'another'}) is replaced by {new}"
        notes = (note,) if declared.method or declared.refused else ()
        return Prepared(weights, name, request.params, notes, temporary=True)
    asked_for_more = bool(given or request.context)
    if (asked_for_more or not written_as_declared(weights.original, declared)) and declared.method:
        inherited = {k: v for k, v in declared.params.items() if k != "factor" or request.context is None}
        name = f"{name}+{declared.method}" if name else declared.method
        own = not asked_for_more
        return Prepared(weights, name, {**inherited, **given}, temporary=True, approximate=True, from_checkpoint=own)
    if name is None and request.require_patched:
        name = _as_it_is(weights, declared)
        params = declared.params if name == declared.method else {}
        return Prepared(weights, name, params, temporary=True, from_checkpoint=True)
    return Prepared(weights, name, request.params, temporary=True)


def _as_it_is(weights: ModelFile, declared: HfRope) -> str:
    """The method whose plan leaves a converted file's rotation as it is."""
    if declared.left_to_upstream:
        raise UsageError(f"--require-patched: add --method (ms-poe, say); {weights.architecture}'s own scaling stays")
    return PLAIN if declared.method is None or weights.has_tensor(keys.ROPE_FREQS) else declared.method


@contextmanager
def _beside(out: Path | None) -> Iterator[Path]:
    """A temporary directory on the file system of ``out``; a dry run without an output has one anywhere."""
    out = out or Path(tempfile.gettempdir()) / "dry-run.gguf"
    try:
        folder = tempfile.TemporaryDirectory(dir=real_path(out).parent, prefix=f".{out.name}-")
    except OSError as error:
        raise OutputError(f"{out}: cannot write there ({error.strerror}); choose another directory") from None
    with folder as name:
        yield Path(name)

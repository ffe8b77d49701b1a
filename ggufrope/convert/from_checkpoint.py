"""From a Hugging Face directory to a GGUF with llama.cpp's own converter, and what remains to be done with that."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.convert.checkpoint_plan import CheckpointPlan
from ggufrope.convert.declared_scaling import HfRope, declared_scaling
from ggufrope.convert.hf_config import HfConfig, read_hf_config
from ggufrope.convert.hf_rotary import find_rotary
from ggufrope.convert.prepared import Prepared
from ggufrope.convert.trained_layers import with_trained_layer
from ggufrope.convert.upstream_converter import check_options, convert_weights
from ggufrope.errors import CheckpointError, GgufropeError, OutputError, UsageError
from ggufrope.files import real_path
from ggufrope.gguf import keys
from ggufrope.methods import PLAIN, flag, scaling_method
from ggufrope.modelfile.loading import faults
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
    check_options(request.converter_options)
    config = read_hf_config(request.source)
    _require_weights(request.source)
    declared = declared_scaling(config, request.read_config_as)
    declared = with_trained_layer(declared, request.source, request.method)
    _require_sense(request, config, declared)
    with _beside(request.output) as folder:
        weights = folder / "weights.gguf"
        with _named_by(request.source, weights):
            yield _what_remains(request, config, declared, _converted(request, declared, weights))


def _converted(request: ConvertRequest, declared: HfRope, out: Path) -> ModelFile:
    """The converter's GGUF. Where it stumbles over the scaling, it converts the directory without that.

    It writes Llama 3.1's factors as a tensor for whatever class inherits from Llama's, also where llama.cpp does not
    load that tensor (SmolLM3), and stops where it has no name for it (Granite).
    """
    given = request.source, out, request.outtype or "auto", declared.traits.layer_tensors, request.converter_options
    try:
        convert_weights(*given)
    except CheckpointError as error:
        if "ROPE_FREQS" not in str(error):
            raise
    else:
        file = ModelFile.open(out)
        if keys.ROPE_FREQS not in {fault.name for fault in faults(file)}:
            return file
    out.unlink(missing_ok=True)
    convert_weights(*given, scaled=False)
    return ModelFile.open(out)


#: Models that llama.cpp's converter converts wrongly in another way than by their scaling, by ``model_type``.
_WRONG_PAIRS = {
    "bamba": "it reorders Q and K as if whole heads rotated, and only a part of each does, so other pairs would rotate"
}


def _require_weights(directory: Path) -> None:
    if not any(directory.glob("*.safetensors")) and not any(directory.glob("*.bin")):
        raise CheckpointError(f"{directory}: no weights (*.safetensors or *.bin) beside config.json; download them too")


def _require_sense(request: ConvertRequest, config: HfConfig, declared: HfRope) -> None:
    kind = config.raw.get("model_type")
    if kind in _WRONG_PAIRS and config.rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            f"{config.path}: llama.cpp's converter gets model_type '{kind}' wrong: {_WRONG_PAIRS[kind]}; use another "
            "program for this model"
        )
    if config.rope.get("rope_type", "default") is None:
        raise CheckpointError(f"{config.path}: its rope_type is null; name a type, or take rope_scaling out")
    given = [k for k, v in request.params.items() if v is not None]
    if request.method is None and (given or request.context) and not declared.method:
        flags = ", ".join(map(flag, given)) or "--context"
        raise UsageError(f"{flags}: {config.path} asks for no scaling that this could change; add --method M")
    keeps = request.method is None or scaling_method(request.method).traits.keeps_scaling
    if keeps and declared.scales and not declared.method and not config.knows_rope_type:
        raise CheckpointError(
            f"{config.path} asks for rope type {config.rope['rope_type']!r}, which neither transformers nor ggufrope "
            "knows; give --method to replace it"
        )


def _what_remains(request: ConvertRequest, config: HfConfig, declared: HfRope, weights: ModelFile) -> Prepared:
    """The method that makes of the converter's GGUF what was asked for."""
    if not weights.rotates:
        return _unrotated(request, config, weights)
    scaling = scaling_method(request.method) if request.method else None
    if scaling is not None and not scaling.traits.keeps_scaling:
        return _replaced(request, declared, weights)
    return CheckpointPlan(request, config, declared, weights).prepared()


def _unrotated(request: ConvertRequest, config: HfConfig, weights: ModelFile) -> Prepared:
    """A model that llama.cpp does not rotate: right only where transformers does not either.

    Raises:
        CheckpointError: transformers does.
    """
    try:
        rotary = find_rotary(config)
    except CheckpointError:  # of models without RoPE it may have none that could be built from the text's part alone
        rotary = None
    if rotary is not None and request.method is None:
        raise CheckpointError(
            f"{config.path}: {rotary.name} rotates this model, and llama.cpp's converter writes one that does not "
            f"rotate ({weights.unrotated}); --method none takes it as the converter writes it"
        )
    method = request.method or (PLAIN if request.require_patched else None)
    compared = "" if request.method else "the model has no rotation in transformers, and none in the file"
    return Prepared(weights, method, request.params, temporary=True, compared=compared)


def _replaced(request: ConvertRequest, declared: HfRope, weights: ModelFile) -> Prepared:
    """A method asked for by name, in place of what the configuration asks for."""
    name, scaling = request.method or "", scaling_method(request.method or "")
    given: Mapping[str, Any] = {k: v for k, v in request.params.items() if v is not None}
    if scaling.name == declared.method and scaling.traits.trained_layer:
        return Prepared(weights, name, {**declared.params, **given}, temporary=True)
    new = "one with the parameters given here" if name == declared.method else name
    stays = bool(weights.model.own_factors)  # the plan's own notes say so
    replaced = declared.scales and not stays
    notes = (f"config.json's own scaling ({declared.kind}) is replaced by {new}",) if replaced else ()
    return Prepared(weights, name, request.params, notes, temporary=True)


@contextmanager
def _named_by(directory: Path, weights: Path) -> Iterator[None]:
    """Have messages about the temporary weights name the directory: that is what a person gave."""
    try:
        yield
    except GgufropeError as error:
        text = str(error)
        if str(weights) in text:
            raise type(error)(text.replace(str(weights), str(directory))) from None
        if str(directory) in text or isinstance(error, (UsageError, OutputError)):
            raise
        raise type(error)(f"{directory}: {text}") from None


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

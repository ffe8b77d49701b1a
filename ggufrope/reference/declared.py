"""What a Hugging Face directory's own configuration asks for, as transformers reads it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError

from ggufrope.errors import CheckpointError, UnsupportedModelError

__all__ = ["FULL", "config_of", "describe", "entries", "flat", "layer_kind", "of_kind", "scales", "text_of"]

#: What transformers calls layers without a window, where kinds of layers have settings of their own.
FULL = "full_attention"


def config_of(path: Path) -> Any:
    """The directory's configuration as transformers' class for it; the class fills in what ``config.json`` omits.

    Raises:
        CheckpointError: no such directory, or nothing that transformers can read.
    """
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path}: no config.json there; a Hugging Face directory is needed")
    try:
        return transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        said = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise CheckpointError(f"{path}: transformers cannot read config.json: {said}; correct it there") from None


def text_of(config: Any) -> Any:
    """The part of a configuration that is about text; the whole of it where it has no other."""
    return config.get_text_config(decoder=True)


def entries(config: Any) -> dict[str, Mapping[str, Any]]:
    """Rope settings by kind of layer; under ``""`` where one is for all; empty where the model has none.

    Args:
        config: see ``text_of``.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {kind: entry for kind, entry in rope.items() if isinstance(entry, Mapping)}
    return kinds or ({"": rope} if rope else {})


def layer_kind(config: Any, layer: int) -> str:
    """The kind of a layer, a key of ``entries``; empty where one setting is for all."""
    if "" in entries(config):
        return ""
    kinds = getattr(config, "layer_types", None) or ()
    return str(kinds[layer]) if layer < len(kinds) else ""


def scales(config: Any) -> bool:
    """Whether a configuration asks for any other rotation than plain RoPE."""
    return any(_kind(entry) not in ("default", "mrope") for entry in entries(config).values())


def describe(config: Any) -> str:
    """One phrase: type and numbers, for each kind of layers where they differ."""
    found = {kind: _described(entry) for kind, entry in entries(config).items()}
    if not found:
        return "no rotation"
    return "; ".join(f"{kind}: {text}" if kind else text for kind, text in found.items())


def flat(config: Any) -> Any:
    """A copy of a configuration with one setting, that of layers without a window, where it has one for each kind.

    Raises:
        UnsupportedModelError: there is no such setting.
    """
    found = entries(config)
    if not found.keys() & {"", FULL}:
        kinds = ", ".join(found) or "no rope settings"
        raise UnsupportedModelError(
            f"the reference cannot replace the scaling of '{config.model_type}': transformers has {kinds} for it; "
            "compare with a GGUF reference"
        )
    return of_kind(config, "" if "" in found else FULL)


def of_kind(config: Any, kind: str) -> Any:
    """A copy of a configuration with the setting of one kind of layers, a key of ``entries``, alone."""
    rope = dict(entries(config)[kind])
    if kind and getattr(config, "is_heterogeneous", False):  # Gemma 4: heads of some layers are wider
        config = config.per_layer_config[kind]
    config = copy.deepcopy(config)
    config.rope_parameters = rope
    return config


def _kind(entry: Mapping[str, Any]) -> str:
    return str(entry.get("rope_type") or entry.get("type") or "default")


def _described(entry: Mapping[str, Any]) -> str:
    numbers = {k: v for k, v in entry.items() if isinstance(v, (bool, int, float))}
    shown = [f"{k} {v:.10g}" if isinstance(v, float) else f"{k} {v}" for k, v in sorted(numbers.items())]
    return _kind(entry) + (f" ({', '.join(shown)})" if shown else "")

"""A checkpoint's configuration, as transformers' own config class reads it.

``config.json`` leaves much unsaid: class defaults, ``rope_scaling`` beside ``rope_parameters``, nested text models.
What it means is what the class makes of it, so the class is asked, without any code of the directory's own. Where
transformers has no class, the same is read by the general rules of its rope functions; ``HfConfig.read_as`` says so.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.errors import CheckpointError
from ggufrope.files import read_json
from ggufrope.methods import METHODS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["HfConfig", "quiet_transformers", "read_config", "read_hf_config"]

FULL, SLIDING = "full_attention", "sliding_attention"

_WINDOWS = (SLIDING, "chunked_attention")
_RECURRENT = ("linear_attention", "mamba", "mamba2", "conv", "recurrent")  # types of layers without heads that rotate

#: Where wrappers that transformers has no class for keep their text model; llama.cpp's converter looks there too.
_NESTED = ("text_config", "llm_config", "lm_config", "language_config", "lfm")


@dataclass(frozen=True, slots=True)
class HfConfig:
    """What a directory's ``config.json`` means.

    Attributes:
        directory: the Hugging Face directory.
        raw: the text model's part of ``config.json`` as it is written.
        text: the text model's configuration, of transformers' class.
        read_as: which class that is, where ``model_type`` names none; empty where it does.
        general: no class of transformers is this model's: ``text`` is a plain Llama's with its rope settings.
    """

    directory: Path
    raw: Mapping[str, Any]
    text: PreTrainedConfig
    read_as: str = ""
    general: bool = False

    @property
    def path(self) -> Path:
        """The file, for messages."""
        return self.directory / "config.json"

    @property
    def rope_by_layer_type(self) -> dict[str, Mapping[str, Any]]:
        """Its rope settings for each type of layer; one entry, ``full_attention``, where all layers share them."""
        rope = getattr(self.text, "rope_parameters", None) or {}
        nested: dict[str, Mapping[str, Any]] = {name: entry for name, entry in rope.items() if isinstance(entry, dict)}
        return nested if nested and "rope_type" not in rope else {FULL: rope}

    @property
    def knows_rope_type(self) -> bool:
        """Whether transformers has the type of scaling that it asks for."""
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        kind = self.rope.get("rope_type")
        return kind in (None, "default", "mrope", "axial") or kind in ROPE_INIT_FUNCTIONS

    @property
    def rope(self) -> Mapping[str, Any]:
        """The rope settings of layers that see everything, or of the first type where none is called so."""
        by_type = self.rope_by_layer_type
        return by_type.get(FULL) or next(iter(by_type.values()))

    def layer_type(self, layer: int) -> str:
        """The type of a layer; ``full_attention`` where the configuration has none."""
        types = getattr(self.text, "layer_types", None) or ()
        return str(types[layer]) if layer < len(types) else FULL

    def rotates(self, layer: int) -> bool | None:
        """Whether a layer rotates; None where the configuration does not say."""
        flags = getattr(self.text, "no_rope_layers", None) or ()
        if layer < len(flags):
            return bool(flags[layer])
        return False if self.layer_type(layer) in _RECURRENT else None

    def slides(self, layer: int) -> bool | None:
        """Whether a layer attends to a window only; None where the configuration has no types of layers."""
        return self.layer_type(layer) in _WINDOWS if getattr(self.text, "layer_types", None) else None


def read_config(directory: Path) -> dict[str, Any]:
    """``config.json`` as it is.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    path = directory / "config.json"
    if not any(directory.glob("config.json")):
        raise CheckpointError(f"{directory}: no config.json; give a Hugging Face model directory or a GGUF file")
    config = read_json(path, CheckpointError)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: an object is needed, found a {type(config).__name__}; download it again")
    return config


def read_hf_config(directory: Path) -> HfConfig:
    """What ``config.json`` means.

    Raises:
        CheckpointError: it is missing or damaged, transformers' class for it refuses it, or transformers is missing.
    """
    read_config(directory)  # refuses what is no configuration, in words
    try:
        from transformers import CONFIG_MAPPING, PreTrainedConfig
    except ImportError as error:
        raise CheckpointError(f"{directory}: reading it needs {error.name} (pip install 'ggufrope[torch]')") from None
    raw = PreTrainedConfig.get_config_dict(directory, local_files_only=True)[0]  # it knows how infinity is written
    part = _raw_text(raw)
    for whole in (raw, part):
        if whole.get("model_type") in CONFIG_MAPPING:
            return HfConfig(directory, part, _text(directory, whole), _renamed(whole))
    architecture = next(iter(part.get("architectures") or raw.get("architectures") or ()), "")
    known = _model_type_of(str(architecture))
    if known:
        read_as = f"model_type {part.get('model_type')!r} is none of its own, read as {known}'s {architecture}"
        return HfConfig(directory, part, _text(directory, {**part, "model_type": known}), read_as)
    read_as = f"it has no class for model_type {part.get('model_type')!r}: by its general rope functions"
    return HfConfig(directory, part, _general(directory, part), read_as, general=True)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' remarks off the terminal: what matters is compared afterwards."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _raw_text(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The text model's part; its wrapper's keys stay where it has none of its own, as in llama.cpp's converter."""
    thinker = raw.get("thinker_config")
    outer = {**raw, **thinker} if isinstance(thinker, dict) else dict(raw)
    for name in _NESTED:
        inner = outer.get(name)
        if isinstance(inner, dict):
            return {**{k: v for k, v in outer.items() if k != name}, **inner}
    return outer


def _text(directory: Path, raw: Mapping[str, Any]) -> PreTrainedConfig:
    """The text configuration of a class that transformers has."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[raw["model_type"]]
    try:
        with quiet_transformers():
            config = kind.from_dict(_modern(raw)).get_text_config(decoder=True)
            if getattr(config, "rope_parameters", None):
                config.standardize_rope_params()  # once more, as rotary modules do: keys beside the scaling count now
            return config
    except Exception as error:  # each class validates in its own way
        raise CheckpointError(
            f"{directory}/config.json: transformers' class for {raw['model_type']} refuses it ({_line(error)}); "
            "mend the setting that it names"
        ) from None


def _modern(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with today's name of its scaling: Phi-3 was published with another, which transformers 5 refuses."""
    today = {old: cls.traits.hf_types[0] for cls in METHODS.values() for old in cls.traits.hf_types[1:]}
    renamed = copy.deepcopy(dict(raw))
    for name in ("rope_scaling", "rope_parameters"):
        rope = raw.get(name)
        kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, dict) else None
        if isinstance(rope, dict) and kind in today:
            renamed[name] = {k: v for k, v in rope.items() if k != "type"} | {"rope_type": today[kind]}
    return renamed


def _renamed(raw: Mapping[str, Any]) -> str:
    """What was renamed by ``_modern``, in words; empty where nothing was."""
    was, now = (c.get("rope_scaling") or c.get("rope_parameters") or {} for c in (raw, _modern(raw)))
    return (
        "" if was == now else f"its rope type {was.get('rope_type') or was.get('type')!r} read as {now['rope_type']!r}"
    )


def _model_type_of(architecture: str) -> str:
    """The model type whose causal language model has this class name; empty where there is none."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return next((t for t, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if name == architecture), "")


def _general(directory: Path, raw: Mapping[str, Any]) -> PreTrainedConfig:
    """A Llama configuration with the rope settings of a model that transformers does not have."""
    from transformers import LlamaConfig

    rope = _modern(raw).get("rope_scaling") or _modern(raw).get("rope_parameters") or {}
    names = {
        "hidden_size": ("hidden_size", "n_embd"),
        "num_attention_heads": ("num_attention_heads", "n_head"),
        "head_dim": ("qk_rope_head_dim", "head_dim"),
        "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers"),
        "max_position_embeddings": ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"),
        "rope_theta": ("rope_theta", "rotary_emb_base"),
        "partial_rotary_factor": ("partial_rotary_factor", "rotary_pct", "rope_pct"),
    }
    given = {k: next((raw[n] for n in some if raw.get(n) is not None), None) for k, some in names.items()}
    given = {k: v for k, v in given.items() if v is not None}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{directory}/config.json: rope_scaling is {rope!r}; an object is needed")
    if raw.get("original_max_position_embeddings") and rope:
        rope = {"original_max_position_embeddings": raw["original_max_position_embeddings"], **rope}
    try:
        with quiet_transformers():
            config = LlamaConfig(**given, **({"rope_scaling": copy.deepcopy(rope)} if rope else {}))
            config.standardize_rope_params()
            return config
    except Exception as error:  # transformers validates in many ways
        raise CheckpointError(
            f"{directory}/config.json: its rope settings make no sense to transformers ({_line(error)}); "
            "mend the setting that it names"
        ) from None


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:160]}" if lines else type(error).__name__

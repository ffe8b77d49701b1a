"""transformers' class for a GGUF, without weights: what its header describes, and where each tensor of it belongs.

transformers knows how to make a configuration of a GGUF's keys, which of a class's weights a tensor is, and what
llama.cpp's converter did to its values (llama's Q and K are permuted, Gemma's norms have 1 added). What its
configuration leaves at a class's defaults, though the file says it, is corrected here. Whether all of this is right
for the file at hand is not believed but compared with the runtime (``runtime_agreement.py``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.initialization import no_init_weights
from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map
from transformers.utils import logging

from ggufrope.errors import GgufropeError, UnsupportedModelError
from ggufrope.gguf import keys
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["REMEDY", "DescribedClass", "describe"]

REMEDY = "--engine blind takes it"
#: transformers' name of a GGUF's architecture in its table of keys, where they differ.
_LISTED = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "minimax-m2": "minimax_m2"}
#: The type of model that a row of that table is for, where it is not the row's name: the part that reads text.
_TEXT = {"gemma3": "gemma3_text", "gemma4": "gemma4_text"}
#: What else of a configuration a file says, by its key.
_SAID = {
    keys.EXPERT_LENGTH: "moe_intermediate_size",
    keys.SHARED_EXPERT_LENGTH: "shared_expert_intermediate_size",
    keys.ATTENTION_CAP: "attn_logit_softcapping",
    keys.FINAL_CAP: "final_logit_softcapping",
    keys.SLIDING_WINDOW: "sliding_window",
}


@dataclass(frozen=True, slots=True)
class DescribedClass:
    """A class that a file describes.

    Attributes:
        model: transformers' causal model; its parameters are on the ``meta`` device, its buffers are not.
        names: for each of the GGUF's tensors that it uses, the name of the parameter.
        processor: what turns a tensor's values into the parameter's.
    """

    model: Any
    names: dict[str, str]
    processor: Any


def describe(file: ModelFile) -> DescribedClass:
    """The class of ``file``.

    Raises:
        UnsupportedModelError: transformers has none for its architecture, or cannot make one of its keys.
    """
    if _listed(file) not in GGUF_CONFIG_MAPPING or file.unrotated:
        raise UnsupportedModelError(
            f"{file.path}: PyTorch's classes read no GGUF of architecture '{file.architecture}'; {REMEDY}"
        )
    try:
        with _quiet():
            model = _model(_config(file))
            processor = TENSOR_PROCESSORS.get(file.architecture, TensorProcessor)(config=model.config.to_dict())
            flat = _Flat(model.config, model.state_dict())
            names = get_gguf_hf_weights_map(flat, processor, model_type=file.architecture)
    except GgufropeError:
        raise
    except Exception as error:  # whatever a class raises that was given settings it was not written for
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnsupportedModelError(f"{file.path}: transformers cannot make a model of it ({said}); {REMEDY}") from None
    return DescribedClass(model, names, processor)


@dataclass(frozen=True, slots=True)
class _Flat:
    """A model as ``get_gguf_hf_weights_map`` looks at it, but without children, of each of which it would ask again."""

    config: Any
    state: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def named_children(self) -> tuple[()]:
        return ()


def _listed(file: ModelFile) -> str:
    return _LISTED.get(file.architecture, file.architecture)


def _config(file: ModelFile) -> Any:
    """The configuration that the keys of a file describe; how it rotates is none of its business.

    ``load_gguf_checkpoint`` makes the same of them, but parses every token of the vocabulary, and the first shard only.
    """
    name = _listed(file)
    said: dict[str, Any] = dict(GGUF_CONFIG_DEFAULTS_MAPPING.get(name, {}))
    for key, setting in GGUF_CONFIG_MAPPING[name].items():
        value = file.get(keys.stock(keys.OF_ARCHITECTURE + key, file.architecture))
        if setting and value is not None:
            said[setting] = value
    if np.ndim(said.get("num_key_value_heads", 0)):  # lfm2: 0 where a layer has no attention
        heads = [int(n) for n in said["num_key_value_heads"]]
        said["num_key_value_heads"] = max(heads)
        said["layer_types"] = ["full_attention" if n else "conv" for n in heads]
        said["block_auto_adjust_ff_dim"] = False
    if file.architecture == "stablelm":
        said["use_qkv_bias"] = file.has_tensor(keys.FIRST_Q_BIAS)
        said["use_parallel_residual"] = not file.has_tensor(keys.FIRST_FFN_NORM)
    said["tie_word_embeddings"] = not file.has_tensor(keys.OUTPUT)
    said["vocab_size"], said["pad_token_id"] = _rows_of_embedding(file), None  # a class's default may be no token here
    config = AutoConfig.for_model(_TEXT.get(name, name), **said)
    for key, setting in _SAID.items():
        value = file.get(keys.stock(key, file.architecture))
        if value is not None and hasattr(config, setting):
            setattr(config, setting, value)
    _shape_heads(config, file)
    return config


def _rows_of_embedding(file: ModelFile) -> int:
    found = (header.tensor(keys.TOKEN_EMBEDDING) for header in file.headers)
    info = next((info for info in found if info is not None), None)
    if info is None:
        raise UnsupportedModelError(f"{file.path}: it has no tensor '{keys.TOKEN_EMBEDDING}'; {REMEDY}")
    return info.shape[-1]


def _shape_heads(config: Any, file: ModelFile) -> None:
    """Sizes of heads, scale of scores and kinds of layers, from the facts that the runtime goes by."""
    model = file.decoded.model
    if "head_dim" in config.to_dict():
        config.head_dim = model.head_dim
    if hasattr(config, "query_pre_attn_scalar"):  # llama.cpp: 27B models scale otherwise, by their number of layers
        width, heads = config.hidden_size, config.num_attention_heads
        by_width = (file.architecture, model.n_layer) in {("gemma2", 46), ("gemma3", 62)}
        config.query_pre_attn_scalar = width // heads if by_width else model.head_dim
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict) and model.rot_dim < model.head_dim and not model.has_windows:
        rope["partial_rotary_factor"] = model.rot_dim / model.head_dim
    if hasattr(config, "layer_types") and config.layer_types is not None:
        kinds = ("full_attention", "sliding_attention")
        known = set(config.layer_types) <= set(kinds)
        config.layer_types = [kinds[model.slides(i)] for i in range(model.n_layer)] if known else config.layer_types


def _model(config: Any) -> Any:
    config._attn_implementation = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
    with _parameters_on_meta(), no_init_weights():
        try:
            model = AutoModelForCausalLM.from_config(config, attn_implementation=config._attn_implementation)
        except ValueError:  # a class without sdpa
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.eval()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Keep no parameter's values; buffers, which a file does not have, are computed as always."""
    register = nn.Module.register_parameter

    def on_meta(module: Any, name: str, parameter: Any) -> None:
        kept = None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, kept)

    nn.Module.register_parameter = on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers' remarks are about loading whole models."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.set_verbosity(level)

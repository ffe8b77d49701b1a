"""Load a Hugging Face directory with a rope setting of our choice, and stream its log-probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging

from ggufrope.errors import CheckpointError, ParameterError, UnsupportedModelError
from ggufrope.reference.head_ratios import PROJECTIONS, HeadRotation
from ggufrope.reference.lengths import frequencies
from ggufrope.reference.scaling import own_factors, rope_parameters
from ggufrope.reference.spec import ReferenceSpec

__all__ = ["load_reference", "log_probs", "logits"]


def load_reference(
    path: Path,
    spec: ReferenceSpec | None = None,
    *,
    length: int | None = None,
    dtype: str = "float32",
    stored: str | None = None,
) -> Any:
    """The model in ``path`` as a transformers causal model that rotates as ``spec`` says, on the CPU.

    Args:
        path: a Hugging Face directory with ``config.json`` and weights.
        spec: base method and head ratios; default: as ``config.json`` says.
        length: of a method whose frequencies follow the length, use those of this length for every text: the point
            of the row that serves it. Default: those of the text's own length, as transformers does.
        dtype: ``float32`` or ``float64``, for weights, activations and the angles of layers with head ratios.
            (transformers computes a base method's frequencies, and its cos and sin, in float32 either way.)
        stored: ``float16`` or ``bfloat16`` rounds the matrices to what such a GGUF stores; vectors stay as they are.

    Raises:
        CheckpointError: no such directory, or configuration or weights that transformers cannot load completely.
        UnsupportedModelError: a type of model that this reference was not written for.
    """
    spec = spec or ReferenceSpec()
    with _quiet():
        config = _config(path)
        if spec.method is None and config.rope_parameters["rope_type"] == "clex":
            spec = replace(spec, method="clex")
        fixed = _fixed(path, config, spec, length)
        factors = own_factors(config, spec)
        config.rope_parameters = rope_parameters(config, ReferenceSpec("none") if fixed else spec)
        if hasattr(config, "original_max_position_embeddings"):  # Phi-3's; transformers lets it win over ours
            config.original_max_position_embeddings = config.rope_parameters.get(
                "original_max_position_embeddings", config.max_position_embeddings
            )
        model = _weights(path, config, getattr(torch, dtype))
    rotary = model.base_model.rotary_emb
    if fixed is not None:
        rotary.attention_scaling = fixed[1]
        for buffer in (rotary.inv_freq, rotary.original_inv_freq):
            buffer.copy_(fixed[0].to(buffer.dtype))
    if factors is not None:
        for buffer in (rotary.inv_freq, rotary.original_inv_freq):
            buffer.copy_((buffer.double() / factors).to(buffer.dtype))
    if stored:
        _round(model, getattr(torch, stored))
    if spec.per_head:
        HeadRotation(model, spec.head_ratios)
    return model


def logits(model: Any, ids: Sequence[int], chunk: int = 256) -> Iterator[npt.NDArray[Any]]:
    """Logits at every position of ``ids``, ``(≤ chunk, n_vocab)`` at a time.

    The layers see the whole text at once, so LongRoPE goes by its full length; memory is
    O(length · n_embd + chunk · n_vocab).
    """
    with torch.no_grad():
        tokens = torch.tensor([list(ids)], dtype=torch.long)
        with _quiet():
            hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
        for start in range(0, len(hidden), chunk):
            yield model.get_output_embeddings()(hidden[start : start + chunk]).numpy()


def log_probs(model: Any, ids: Sequence[int], chunk: int = 256) -> Iterator[npt.NDArray[np.float64]]:
    """Log-probabilities of the next token at every position of ``ids``, ``(≤ chunk, n_vocab)`` at a time."""
    for block in logits(model, ids, chunk):
        yield torch.log_softmax(torch.from_numpy(block).double(), dim=-1).numpy()


def _config(path: Path) -> Any:
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path}: no config.json there; a Hugging Face directory is needed")
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise CheckpointError(f"{path}: transformers cannot read config.json: {_line(error)}") from None
    if config.model_type not in PROJECTIONS:
        raise UnsupportedModelError(f"{path}: the reference knows {', '.join(PROJECTIONS)}, not '{config.model_type}'")
    return config


def _fixed(path: Path, config: Any, spec: ReferenceSpec, length: int | None) -> Any:
    """Frequencies and attention scale where they are those of one given length; None where transformers finds them."""
    if spec.by_length and length is not None:
        return frequencies(path, config, spec, length)
    if spec.method == "clex" or spec.params.get("dynamic"):
        raise ParameterError(f"{spec.method} by length: transformers has no such thing; say the length that is served")
    return None


def _weights(path: Path, config: Any, dtype: torch.dtype) -> Any:
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: transformers cannot load it: {_line(error)}") from None
    for kind in ("missing_keys", "mismatched_keys"):  # transformers would run on with random weights
        if report[kind]:
            first, n = min(map(str, report[kind])), len(report[kind])
            raise CheckpointError(f"{path}: {kind.replace('_', ' ')} in the weights: {first} ({n} in all)")
    return model.eval()


def _round(model: Any, stored: torch.dtype) -> None:
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(stored).to(parameter.dtype)


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' remarks and progress bars off the terminal: what matters here is raised."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""Load a Hugging Face directory with a rope setting of our choice, and stream its log-probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from safetensors import SafetensorError
from transformers.utils import logging

from ggufrope.errors import CheckpointError, ParameterError, UnsupportedModelError
from ggufrope.reference.declared import FULL, config_of, entries, flat, layer_kind, text_of
from ggufrope.reference.head_ratios import PROJECTIONS, HeadRotation, part_factors
from ggufrope.reference.heads_in_attention import HeadsInAttention
from ggufrope.reference.lengths import formula, frequencies
from ggufrope.reference.rotary import rotaries, serve
from ggufrope.reference.scaling import (
    frequencies_of,
    original_context,
    own_factors,
    rope_parameters,
    trained_frequencies,
)
from ggufrope.reference.spec import ReferenceSpec

__all__ = ["load_reference", "log_probs", "logits", "quiet", "resolved"]


def load_reference(
    path: Path,
    spec: ReferenceSpec | None = None,
    *,
    length: int | None = None,
    dtype: str = "float32",
    stored: str | None = None,
) -> Any:
    """The model in ``path`` as a transformers causal model that rotates as ``spec`` says, on the CPU.

    With the directory's own settings any model that transformers can run will do, and its rotary modules are left as
    they are. A method in place of them goes into layers without a window, where kinds of layers have settings of their
    own, else into all.

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
        UnsupportedModelError: a type of model in which this reference cannot replace the scaling, or has no Ms-PoE.
    """
    spec = spec or ReferenceSpec()
    with quiet():
        config = config_of(path)
        spec = resolved(config, spec)
        trained = trained_frequencies(text_of(config), spec) if spec.from_wavelength else {}
        if spec.method is None:
            model = _weights(path, config, getattr(torch, dtype))
            if length is not None:
                serve(model, length)
        else:
            model = _replaced(path, config, spec, length, getattr(torch, dtype))
    if stored:
        _round(model, getattr(torch, stored))
    if spec.per_head:
        with quiet():
            _give_heads(model, spec, trained)
    return model


def _give_heads(model: Any, spec: ReferenceSpec, trained: Mapping[str, torch.Tensor]) -> None:
    config = text_of(model.config)
    if spec.has_table:
        given = [torch.tensor(rows, dtype=torch.float64) for rows in spec.pair_factors]
        HeadsInAttention(model, given, spec.layer_scales)
        return
    if config.model_type in PROJECTIONS and not getattr(config, "qk_layernorm", False):
        HeadRotation(model, spec.head_ratios, trained.get(""), spec.from_wavelength)
        return
    rows = (
        part_factors(row, frequencies_of(trained, layer_kind(config, i)), spec.from_wavelength)
        for i, row in enumerate(spec.head_ratios)
    )
    HeadsInAttention(model, list(rows))


def resolved(config: Any, spec: ReferenceSpec) -> ReferenceSpec:
    """``spec`` with the method's name where the configuration asks for one that transformers does not have: CLEX."""
    own = entries(text_of(config)).get("", {})
    return replace(spec, method="clex") if spec.method is None and own.get("rope_type") == "clex" else spec


def logits(model: Any, ids: Sequence[int], chunk: int = 256) -> Iterator[npt.NDArray[Any]]:
    """Logits at every position of ``ids``, ``(≤ chunk, n_vocab)`` at a time.

    The layers see the whole text at once, so LongRoPE goes by its full length; memory is
    O(length · n_embd + chunk · n_vocab) for types in ``PROJECTIONS``, whose output layer alone turns the last hidden
    state into logits. Others may do more (soft caps, scales): their logits are computed at once, O(length · n_vocab).
    """
    with torch.no_grad():
        tokens = torch.tensor([list(ids)], dtype=torch.long)
        if text_of(model.config).model_type not in PROJECTIONS:
            with quiet():
                whole = model(input_ids=tokens, use_cache=False).logits[0]
            for start in range(0, len(whole), chunk):
                yield whole[start : start + chunk].numpy()
            return
        with quiet():
            hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
        for start in range(0, len(hidden), chunk):
            yield model.get_output_embeddings()(hidden[start : start + chunk]).numpy()


def log_probs(model: Any, ids: Sequence[int], chunk: int = 256) -> Iterator[npt.NDArray[np.float64]]:
    """Log-probabilities of the next token at every position of ``ids``, ``(≤ chunk, n_vocab)`` at a time."""
    for block in logits(model, ids, chunk):
        yield torch.log_softmax(torch.from_numpy(block).double(), dim=-1).numpy()


def _replaced(path: Path, config: Any, spec: ReferenceSpec, length: int | None, dtype: torch.dtype) -> Any:
    """The model with ``spec``'s method in place of what the configuration asks for."""
    text = text_of(config)
    own = flat(text)
    fixed, factors = _fixed(path, own, spec, length), own_factors(own, spec)
    if factors is not None and spec.method == "longrope":  # nobody has defined that
        raise UnsupportedModelError(
            f"{path}: longrope over a model with factors of its own has no reference; compare with a GGUF"
        )
    settings = rope_parameters(own, ReferenceSpec("none") if fixed else spec)
    kind = "" if "" in entries(text) else FULL
    text.rope_parameters = {**text.rope_parameters, kind: settings} if kind else settings
    if hasattr(text, "original_max_position_embeddings"):  # Phi-3's; transformers lets it win over ours
        text.original_max_position_embeddings = settings.get(
            "original_max_position_embeddings", text.max_position_embeddings
        )
    model = _weights(path, config, dtype)
    _require_taken(model, own, ReferenceSpec("none") if fixed else spec, kind)
    for rotary in (r for r in rotaries(model) if r.kind == kind):
        if fixed is not None:
            rotary.put(*fixed)
        if factors is not None:
            rotary.put(rotary.frequencies.double() / factors)
    return model


def _require_taken(model: Any, own: Any, spec: ReferenceSpec, kind: str) -> None:
    """Raise UnsupportedModelError unless the class's rotary modules follow the settings that it was given."""
    text, found = text_of(model.config), [r for r in rotaries(model) if r.kind == kind]
    wanted, scale = formula(own, spec, original_context(own, spec))
    for rotary in found:
        got = rotary.frequencies.double()
        try:
            rotary.module(torch.zeros(1), torch.tensor([[0, 1]]), *[kind] * bool(kind))
        except KeyError:  # a setting that this method does not have
            found = []
            break
        except (TypeError, ValueError, IndexError, RuntimeError, AttributeError):  # another way to be asked
            pass
        same = got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-5, atol=0)
        if not same or abs(rotary.scale - scale) > 1e-5 * scale:
            found = []
            break
    if not found:
        raise UnsupportedModelError(
            f"the reference cannot replace the scaling of '{text.model_type}': transformers' class for it does not "
            f"rotate as its rope settings say; give the GGUF before quantization as --reference"
        )


def _fixed(path: Path, config: Any, spec: ReferenceSpec, length: int | None) -> Any:
    """Frequencies and attention scale where they are those of one given length; None where transformers finds them."""
    if spec.by_length and length is not None:
        return frequencies(path, config, spec, length)
    if spec.method == "clex" or spec.params.get("dynamic"):
        raise ParameterError(f"{spec.method} by length: transformers has no such thing; say the length that is served")
    return None


def _weights(path: Path, config: Any, dtype: torch.dtype) -> Any:
    # eager: the one attention that every class has
    attention = "sdpa" if text_of(config).model_type in PROJECTIONS else "eager"
    options = {"config": config, "dtype": dtype, "attn_implementation": attention, "local_files_only": True}
    classes = transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText
    auto = next((c for c in classes if type(config) in c._model_mapping), classes[0])
    try:
        model, report = auto.from_pretrained(path, **options, output_loading_info=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: transformers cannot load it: {_line(error)}; download it again, or update transformers"
        ) from None
    for kind in ("missing_keys", "mismatched_keys"):  # transformers would run on with random weights
        if report[kind]:
            first, n = min(map(str, report[kind])), len(report[kind])
            raise CheckpointError(
                f"{path}: {kind.replace('_', ' ')} in the weights: {first} ({n} in all); download them again"
            )
    return model.eval()


def _round(model: Any, stored: torch.dtype) -> None:
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(stored).to(parameter.dtype)


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
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

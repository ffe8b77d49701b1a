"""Methods whose frequencies follow the length, at one length or many; transformers' own formulas where it has any."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ggufrope.errors import ParameterError
from ggufrope.reference.clex_ode import load_clex, log_scale
from ggufrope.reference.rows import LengthRows
from ggufrope.reference.scaling import original_context, rope_parameters, rot_dim
from ggufrope.reference.spec import ReferenceSpec

__all__ = ["frequencies", "length_rows"]


def frequencies(directory: Path, config: Any, spec: ReferenceSpec, length: int) -> tuple[Tensor, float]:
    """Radians per token ``(rot_dim/2,)`` in float64, and what multiplies cos and sin, for texts of ``length`` tokens.

    ``dynamic-ntk`` is transformers' ``dynamic``, ``yarn`` with ``dynamic`` its ``yarn`` at factor length/original,
    ``longrope`` its own; CLEX is ``reference.clex_ode``. Other methods do not depend on the length.

    Raises:
        ParameterError: a length below 1.
        CheckpointError: CLEX, and the directory has no CLEX layer.
    """
    if length < 1:
        raise ParameterError(f"frequencies for a length of {length}; at least 1 token is needed")
    if spec.method == "clex":
        return _clex(directory, spec, length)
    config, original = copy.deepcopy(config), original_context(config, spec)
    if spec.method == "dynamic-ntk":
        config.max_position_embeddings = original  # what transformers takes for the original context
    if spec.method == "yarn" and spec.params.get("dynamic"):
        spec = replace(spec, params={**spec.params, "dynamic": None, "factor": max(1.0, length / original)})
    config.rope_parameters = rope_parameters(config, spec)
    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        dim = rot_dim(config)
        theta = float(config.rope_parameters["rope_theta"])
        return theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim), 1.0
    if hasattr(config, "original_max_position_embeddings"):
        config.original_max_position_embeddings = original
    inv_freq, scale = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=length)
    return inv_freq.double(), float(scale)


def length_rows(directory: Path, config: Any, spec: ReferenceSpec, points: Sequence[int]) -> LengthRows:
    """``frequencies`` at every point, as ``LengthDecoder`` takes them."""
    rows = [frequencies(directory, config, spec, point) for point in points]
    return LengthRows(tuple(points), tuple(tuple(f.tolist()) for f, _ in rows), tuple(s for _, s in rows))


def _clex(directory: Path, spec: ReferenceSpec, length: int) -> tuple[Tensor, float]:
    layer, config = load_clex(directory)
    t = min(math.ceil(length / config["context"]), spec.params.get("max_factor") or config["max_factor"])
    given = spec.params.get("log_scale")
    scaled = config["log_scale"] if given is None else given
    return layer.frequencies(t), log_scale(length, config["context"]) if scaled else 1.0

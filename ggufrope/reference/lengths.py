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

__all__ = ["formula", "frequencies", "length_rows", "row_points"]

_GRANULARITY = 1.189207  # four rows for each doubling of the length


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
    return formula(config, spec, length)


def formula(config: Any, spec: ReferenceSpec, length: int) -> tuple[Tensor, float]:
    """``frequencies`` of any method but CLEX, whose values are in the weights."""
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
    short = spec.params.get("short_attention_factor")
    return inv_freq.double(), float(scale if short is None or length > original else short)


def row_points(spec: ReferenceSpec, original: int) -> tuple[int, ...]:
    """The lengths at which rows of a file with ``spec`` end; empty where one row is for all lengths.

    Args:
        spec: a method with its parameters.
        original: the context before scaling, in tokens; see ``original_context``.
    """
    params = spec.params
    reach = round(original * params.get("factor", 1.0))
    if spec.method == "longrope":
        lists = params.get("short_factor") != params.get("long_factor")
        two = lists or params.get("short_attention_factor") not in (None, params.get("attention_factor"))
        return (original, max(reach, original + 1)) if two else ()
    if spec.method == "clex":
        original = int(params["context"])
        points = {original * t for t in range(1, int(params["max_factor"]) + 1)}
        if params.get("log_scale"):
            points |= set(_geometric(original, max(points), params.get("granularity", _GRANULARITY)))
        return tuple(sorted(points))
    if spec.method == "dynamic-ntk" or params.get("dynamic"):
        return _geometric(original, reach, params.get("granularity", _GRANULARITY))
    return ()


def _geometric(first: int, last: int, ratio: float) -> tuple[int, ...]:
    """``first`` times powers of ``ratio``, rounded, below ``last``; and ``last``."""
    steps = math.ceil(math.log(last / first) / math.log(ratio)) if last > first else 0
    between = (round(first * ratio**k) for k in range(steps + 1))
    return tuple(sorted({first, last, *(point for point in between if point < last)}))


def length_rows(directory: Path, config: Any, spec: ReferenceSpec, points: Sequence[int]) -> LengthRows:
    """``frequencies`` at every point, as ``LengthDecoder`` takes them."""
    rows = [frequencies(directory, config, spec, point) for point in points]
    return LengthRows(tuple(points), tuple(tuple(f.tolist()) for f, _ in rows), tuple(s for _, s in rows))


def _clex(directory: Path, spec: ReferenceSpec, length: int) -> tuple[Tensor, float]:
    layer, config = load_clex(directory)
    given = {k: v for k, v in spec.params.items() if v is not None}
    context, scaled = given.get("context", config["context"]), given.get("log_scale", config["log_scale"])
    t = min(math.ceil(length / context), given.get("max_factor", config["max_factor"]))
    return layer.frequencies(t), log_scale(length, context) if scaled else 1.0

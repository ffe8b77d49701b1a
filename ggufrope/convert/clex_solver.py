"""From a CLEX checkpoint's trained layer to its table of frequencies: the equation is solved once, in float64.

With d = rot_dim and x the d/2 log-frequencies (CLEX, arXiv 2310.16450, section 3, and the layout of the released
checkpoints)::

    dx/dt = act((x + log ntk(t)) · Up) · Down + d/dt log ntk(t),      x(1) = the log of the plain frequencies
    ntk_i(t) = (10000 · α^(d/(d-2)))^(-2i/d),   α = 2t - 1

The base inside is 10000 whatever the model's own is: that is what the layers were trained with. The solver is
torchdiffeq's ``rk4`` (the 3/8 rule) in steps of ``time_dt``, as in training.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ggufrope.convert.hf_config import read_config
from ggufrope.errors import CheckpointError, ParameterError
from ggufrope.methods.clex import Clex, ClexTable

__all__ = ["solve_clex"]

_BASE = 10000.0
_LAYER = "clex_layer."
_TENSORS = ("inv_freq", "proj_func.ode_up_proj", "proj_func.ode_down_proj")
_LARGEST = 4096


def solve_clex(directory: Path) -> ClexTable:
    """The frequencies of the CLEX checkpoint in ``directory`` at t = 1 ... ``max_factor``.

    Raises:
        CheckpointError: no CLEX layer there, of impossible shapes, with settings that are not CLEX's, or without a
            solution; or torch or torchdiffeq is missing.
    """
    config = read_config(directory)
    settings = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if (
        not isinstance(settings, dict)
        or str(settings.get("type") or settings.get("rope_type")) not in Clex.traits.hf_types
    ):
        raise CheckpointError(f"{directory}/config.json: its rope_scaling is not of type clex; give a CLEX checkpoint")
    try:
        import torch
        import torchdiffeq
    except ImportError as error:
        raise CheckpointError(f"{directory}: solving CLEX needs {error.name} (pip install 'ggufrope[torch]')") from None
    tensors = _tensors(directory, torch)
    rot_dim = _rot_dim(directory, tensors)
    largest = _number(directory, settings, "max_factor", None)
    step = _number(directory, settings, "time_dt", 0.01)
    if not 1 <= largest <= _LARGEST or largest != int(largest) or not 0 < step <= 1:
        raise CheckpointError(
            f"{directory}/config.json: max_factor {largest:g} and time_dt {step:g}; a whole number from 1 to "
            f"{_LARGEST} and a step up to 1 are needed"
        )
    base = _base(directory, config)
    plain = -torch.arange(0, rot_dim, 2, dtype=torch.float64) / rot_dim * math.log(base)
    if not torch.allclose(tensors["inv_freq"], plain.exp(), rtol=1e-2, atol=0):
        raise CheckpointError(
            f"{directory}: {_LAYER}inv_freq are not the frequencies of rope_theta {base:g}; download both anew"
        )
    right_side = _right_side(tensors, rot_dim, _activation(directory, settings, torch), torch)
    times = torch.arange(1, int(largest) + 1, dtype=torch.float64)
    solution = [plain.exp()]
    if len(times) > 1:
        solution = list(torchdiffeq.odeint(right_side, plain, times, method="rk4", options={"step_size": step}).exp())
    context = _number(directory, config, "max_position_embeddings", None)
    try:
        rows = tuple(tuple(float(v) for v in row) for row in solution)
        return ClexTable(rows, int(context), _log_scale(directory, config))
    except ParameterError as error:
        raise CheckpointError(
            f"{directory}: its CLEX layer has no usable solution ({error}); name another --method"
        ) from None


def _right_side(tensors: dict[str, Any], rot_dim: int, act: Any, torch: Any) -> Any:
    up, down = tensors["proj_func.ode_up_proj"], tensors["proj_func.ode_down_proj"]
    index = torch.arange(0, rot_dim, 2, dtype=torch.float64)

    def derivative(t: Any, x: Any) -> Any:
        alpha = 2 * t - 1
        log_ntk = -index / rot_dim * (math.log(_BASE) + rot_dim / (rot_dim - 2) * torch.log(alpha))
        return act((x + log_ntk) @ up) @ down - 2 * index / (rot_dim - 2) / alpha

    return derivative


def _activation(directory: Path, settings: dict[str, Any], torch: Any) -> Any:
    known = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}
    name = str(settings.get("act"))
    if name not in known:
        raise CheckpointError(f"{directory}/config.json: act is '{name}'; CLEX knows {' and '.join(known)}")
    return known[name]


def _tensors(directory: Path, torch: Any) -> dict[str, Any]:
    """The layer's tensors by the name within it, in float64."""
    tensors = {}
    for path in sorted([*directory.glob("*.safetensors"), *directory.glob("pytorch_model*.bin")]):
        tensors.update(_of_file(path, torch))
    if missing := [name for name in _TENSORS if name not in tensors]:
        raise CheckpointError(
            f"{directory}: no {_LAYER}{missing[0]} in its weights, so this is no CLEX checkpoint; name another --method"
        )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{directory}: {_LAYER}{name} has entries that are not finite numbers; download it again"
            )
    return tensors


def _of_file(path: Path, torch: Any) -> dict[str, Any]:
    from safetensors import safe_open

    try:
        if path.suffix == ".bin":
            weights = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            return {n: tensor.double() for key, tensor in weights.items() if (n := _within(key))}
        with safe_open(path, framework="pt") as file:
            return {n: file.get_tensor(key).double() for key in file.keys() if (n := _within(key))}  # noqa: SIM118  # no mapping
    except Exception as error:  # whatever the two readers raise for a damaged file
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}: {error}); download it again") from None


def _within(key: str) -> str:
    """``inv_freq`` for ``model.clex_layer.inv_freq``; empty for other tensors."""
    _, layer, name = key.partition(_LAYER)
    return name if layer and name in _TENSORS else ""


def _rot_dim(directory: Path, tensors: dict[str, Any]) -> int:
    shapes = {name: tuple(tensors[name].shape) for name in _TENSORS}
    pairs, width = shapes[_TENSORS[0]][-1] if shapes[_TENSORS[0]] else 0, shapes[_TENSORS[1]][-1:]
    wanted = {_TENSORS[0]: (pairs,), _TENSORS[1]: (pairs, *width), _TENSORS[2]: (*width, pairs)}
    for name, shape in shapes.items():
        if shape != wanted[name] or pairs < 2:
            raise CheckpointError(
                f"{directory}: {_LAYER}{name} has shape {list(shape)}, which does not fit "
                + ", ".join(f"{n} {list(s)}" for n, s in shapes.items() if n != name)
                + "; download the weights again"
            )
    return 2 * pairs


def _base(directory: Path, config: dict[str, Any]) -> float:
    rope = config.get("rope_parameters")
    theta = (rope.get("rope_theta") if isinstance(rope, dict) else None) or config.get("rope_theta") or _BASE
    base = _number(directory, {"rope_theta": theta}, "rope_theta", None)
    if base <= 1:
        raise CheckpointError(f"{directory}/config.json: rope_theta is {base:g}; a base above 1 is needed")
    return base


def _log_scale(directory: Path, config: dict[str, Any]) -> bool:
    value = config.get("log_scale") or False
    if not isinstance(value, bool):
        raise CheckpointError(f"{directory}/config.json: log_scale is {value!r}; true or false is needed")
    return value


def _number(directory: Path, values: dict[str, Any], key: str, default: float | None) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CheckpointError(f"{directory}/config.json: {key} is {value!r}; CLEX needs a number there")
    return float(value)

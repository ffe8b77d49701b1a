"""A CLEX layer written from its paper (arXiv 2310.16450), and the frequencies it gives at a length.

Section 3.2: log-frequencies z(t) obey dz/dt = φ(z, t) from z(1), those of plain RoPE. Section 3.3: φ is the
derivative of NTK's log-frequencies plus the output of a small network for z and those log-frequencies. The equation is
integrated in float64 with the 3/8 rule, in the step that the checkpoint names. Shares nothing with
``ggufrope.convert.clex_solver``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ggufrope.errors import CheckpointError

__all__ = ["ClexLayer", "load_clex"]


class ClexLayer:
    """The trained right-hand side and its solution."""

    def __init__(self, plain: Tensor, up: Tensor, down: Tensor, act: str, step: float = 0.01) -> None:
        """Take the weights.

        Args:
            plain: frequencies at t = 1, ``(rot_dim/2,)``.
            up: ``(rot_dim/2, width)``.
            down: ``(width, rot_dim/2)``.
            act: ``silu`` or ``tanh``.
            step: of the integration.
        """
        self.start, self.up, self.down, self.step = plain.double().log(), up.double(), down.double(), step
        self.act = {"silu": lambda x: x * torch.sigmoid(x), "tanh": torch.tanh}[act]

    def slope(self, t: float, z: Tensor) -> Tensor:
        """dz/dt. NTK-aware scaling by α = 2t - 1, over base 10000 as the layers were trained."""
        dim, alpha = 2 * len(z), 2 * t - 1
        share = torch.arange(len(z), dtype=torch.float64) / len(z)
        ntk = -share * (math.log(10000.0) + dim / (dim - 2) * math.log(alpha))
        return self.act((z + ntk) @ self.up) @ self.down - share * dim / (dim - 2) * 2 / alpha

    def frequencies(self, t: int) -> Tensor:
        """Radians per token of each pair, ``(rot_dim/2,)``, at a whole t."""
        z, h = self.start, self.step
        for n in range(round((t - 1) / h)):
            now = 1 + n * h
            a = self.slope(now, z)
            b = self.slope(now + h / 3, z + h * a / 3)
            c = self.slope(now + 2 * h / 3, z + h * (b - a / 3))
            d = self.slope(now + h, z + h * (a - b + c))
            z = z + h * (a + 3 * b + 3 * c + d) / 8
        return z.exp()


def load_clex(directory: Path) -> tuple[ClexLayer, dict[str, Any]]:
    """The layer of a checkpoint in safetensors, and what its ``config.json`` says about it.

    Raises:
        CheckpointError: there is none.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    settings = config.get("rope_scaling") or config.get("rope_parameters") or {}
    weights = {k: v for path in directory.glob("*.safetensors") for k, v in load_file(path).items() if "clex" in k}
    try:
        plain, up, down = (weights[f"model.clex_layer.{name}"] for name in _NAMES)
    except KeyError as error:
        raise CheckpointError(
            f"{directory}: no CLEX layer for the reference: {error} is missing; download its weights again"
        ) from None
    base = config.get("rope_theta") or settings.get("rope_theta") or 10000.0
    exact = base ** (-torch.arange(len(plain), dtype=torch.float64) / len(plain))
    layer = ClexLayer(exact, up, down, settings["act"], float(settings.get("time_dt", 0.01)))
    return layer, {
        "context": int(config["max_position_embeddings"]),
        "max_factor": int(settings["max_factor"]),
        "log_scale": bool(config.get("log_scale", False)),
    }


_NAMES = ("inv_freq", "proj_func.ode_up_proj", "proj_func.ode_down_proj")


def log_scale(length: int, context: int) -> float:
    """What multiplies cos and sin where queries are to be multiplied by ln(length)/ln(context)."""
    return math.sqrt(max(1.0, math.log(length) / math.log(context)))

"""The one table of solvers: parameters that are a layer trained with the model, from the checkpoint that has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ggufrope.convert.declared_scaling import HfRope
from ggufrope.methods import scaling_method

__all__ = ["SOLVERS", "solve_layer", "with_trained_layer"]


def with_trained_layer(declared: HfRope, directory: Path, method: str | None) -> HfRope:
    """``declared`` with its trained layer solved, where ``method`` (None: what it asks for) goes by it.

    Raises:
        CheckpointError: see ``solve_layer``.
    """
    layer, scaling = declared.traits.trained_layer, scaling_method(method) if method else None
    used = scaling is None or scaling.traits.keeps_scaling or scaling.name == declared.method
    return replace(declared, params={layer: solve_layer(layer, directory)}) if layer and used else declared


def solve_layer(parameter: str, directory: Path) -> Any:
    """The value of a method's ``traits.trained_layer``, from a Hugging Face directory.

    Raises:
        CheckpointError: the directory has no such layer, or none with a solution.
    """
    return SOLVERS[parameter](directory)


def _clex(directory: Path) -> Any:
    from ggufrope.convert.clex_solver import solve_clex  # torch: seconds

    return solve_clex(directory)


#: By the parameter's name.
SOLVERS: dict[str, Callable[[Path], Any]] = {"clex_from": _clex}

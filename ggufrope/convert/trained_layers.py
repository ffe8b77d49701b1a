"""The one table of solvers: parameters that are a layer trained with the model, from the checkpoint that has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["SOLVERS", "solve_layer"]


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

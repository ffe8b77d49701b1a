"""Parameters that come from JSON files: factor lists, head ratios, a solved CLEX layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufrope.errors import GgufropeError, ParameterError
from ggufrope.files import read_json
from ggufrope.methods.clex import ClexTable
from ggufrope.methods.table_file import read_table
from ggufrope.rope.table import HeadRatios

__all__ = ["READERS", "HeadsFile", "parse_counts", "read_clex_table", "read_list"]


def parse_counts(text: str, name: str) -> tuple[int, ...]:
    """``256,512`` → (256, 512).

    Raises:
        ParameterError: something else.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ParameterError(f"{name} {text}: expected whole numbers separated by commas") from None


def read_list(path: Path, name: str) -> tuple[float, ...]:
    """Numbers from a JSON file: a list, or an object that holds it as ``name`` (a Hugging Face ``config.json``, too).

    Raises:
        ParameterError: unreadable, not JSON, or not a list of numbers.
    """
    value = read_json(path, ParameterError)
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(value, dict) and isinstance(value.get(key), dict) and name in value[key]:
            value = value[key]
    value = value.get(name) if isinstance(value, dict) else value
    return _numbers(value, f"{path}: {name}")


@dataclass(frozen=True, slots=True)
class HeadsFile:
    """A JSON file of head ratios: a ``heads.json`` of `ggufrope calibrate`, or one made by hand.

    Attributes:
        path: the file.
        content: the object in it; empty if it holds something else.
    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, error: type[GgufropeError] = ParameterError) -> HeadsFile:
        """Read it once, for whoever needs a part of it.

        Raises:
            ParameterError: unreadable or not JSON; ``error`` in its place if given.
        """
        value = read_json(path, error)
        return cls(path, value if isinstance(value, dict) else {})

    def ratios(self) -> HeadRatios:
        """Head ratios from ``{"ratios": [[r for each KV head] for each layer]}``.

        Raises:
            ParameterError: of another structure.
        """
        rows = self.content.get("ratios")
        if not isinstance(rows, list):
            raise ParameterError(
                f'{self.path}: no "ratios" found; it must read {{"ratios": [[r for each KV head] for each layer]}}'
            )
        return tuple(_numbers(row, f"{self.path}: ratios of layer {layer}") for layer, row in enumerate(rows))


def read_clex_table(path: Path) -> ClexTable:
    """A solved CLEX layer from ``{"context": N, "log_scale": false, "frequencies": [[one for each pair] for each t]}``.

    Raises:
        ParameterError: unreadable, not JSON, or of another structure.
    """
    value = read_json(path, ParameterError)
    rows = value.get("frequencies") if isinstance(value, dict) else None
    context = value.get("context") if isinstance(value, dict) else None
    if not isinstance(rows, list) or not isinstance(context, int):
        raise ParameterError(
            f'{path}: no CLEX table; it must read {{"context": N, "frequencies": [[one for each pair] for each t]}}'
        )
    frequencies = tuple(_numbers(row, f"{path}: frequencies at t = {t}") for t, row in enumerate(rows, 1))
    log_scale = value.get("log_scale", False)
    if not isinstance(log_scale, bool):
        raise ParameterError(f"{path}: log_scale is {log_scale!r}; true or false is needed")
    return ClexTable(frequencies, context, log_scale)


#: What reads the file behind an option whose parameter is of this ``kind``; takes the path and the parameter's name.
READERS: dict[str, Callable[[Path, str], Any]] = {
    "list": read_list,
    "ratios": lambda path, _: HeadsFile.read(path).ratios(),
    "layer": lambda path, _: read_clex_table(path),
    "table": lambda path, _: read_table(path),
}


def _numbers(value: Any, what: str) -> tuple[float, ...]:
    if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
        raise ParameterError(f"{what}: a list of numbers is needed, found {str(value)[:60]}")
    try:
        return tuple(float(v) for v in value)
    except OverflowError:
        raise ParameterError(f"{what}: a number is too large for floating point; correct it there") from None

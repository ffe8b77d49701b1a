"""Parameters of a method from a Hugging Face ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["parameters_from_config"]

#: HF's names of the parameters that our methods call otherwise.
_RENAMED = {"original_max_position_embeddings": "original_context"}


def parameters_from_config(names: Sequence[str], config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``names`` that a configuration gives; the factor follows from its contexts where it is not given.

    Args:
        names: parameters by our names.
        config: what transformers' class makes of ``config.json``, or of the text model's part of it.
        rope: its ``rope_parameters``, of the layers that see everything where there are several.

    Raises:
        KeyError: no factor, and nothing that it follows from.
        TypeError, ValueError: a parameter is no number.
    """
    given = {_RENAMED.get(k, k): v for k, v in rope.items() if v is not None}
    top = config.get("original_max_position_embeddings")
    longest = config.get("max_position_embeddings")
    original = given.get("original_context") or top or longest
    if "original_context" in names and original:
        given["original_context"] = int(original)
    if "original_context" in names and longest and original and "factor" not in given:
        given["factor"] = longest / original
    if "factor" not in given:
        raise KeyError("factor")
    return {k: _number(given[k]) for k in names if k in given}


def _number(value: Any) -> Any:
    if isinstance(value, (bool, int)):
        return value
    return tuple(map(float, value)) if isinstance(value, list) else float(value)

"""Whether ratios from a file were measured on the model that they are about to be written into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ggufrope.errors import ParameterError
from ggufrope.modelfile.identity import Identity
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["require_same_model"]


def require_same_model(heads: Path, model: ModelFile) -> tuple[str, ...]:
    """Refuse another model's ``heads.json``. A file of ratios alone says nothing about a model and passes.

    Args:
        heads: what `ggufrope calibrate` wrote, or a hand-made file of ratios.
        model: the file that its ratios are for.

    Returns:
        What a person should know, one sentence each.

    Raises:
        ParameterError: the scores are another model's.
        GgufError: ``model`` cannot be read.
    """
    record = _measured(heads)
    if record is None:
        return ()
    here = model.identity
    if difference := record.difference(here):
        raise ParameterError(
            f"{heads}: was measured on another model than {model.path}, which has {difference}; run "
            f"`ggufrope calibrate {model.path.name}`"
        )
    if record.weights != here.weights:
        return (f"{heads.name} was measured on another quantization of this model",)
    return ()


def _measured(heads: Path) -> Identity | None:
    try:
        content: Any = json.loads(heads.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # the reader of ratios says what is wrong
    told = content.get("model") if isinstance(content, dict) else None
    if told is None:
        return None
    try:
        lists = {k: tuple(int(v) for v in told[k]) for k in ("n_head", "n_head_kv")}
        return Identity(**(told | lists))
    except (TypeError, ValueError, KeyError, OverflowError):  # int() of an infinity
        raise ParameterError(f'{heads}: "model" is damaged; run `ggufrope calibrate` again') from None

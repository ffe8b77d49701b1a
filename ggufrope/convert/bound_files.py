"""What is to be said of parameters from a file that was made for one model; another model's are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ggufrope.methods.parameter_files import HeadsFile
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.same_model import require_made_for

if TYPE_CHECKING:
    from ggufrope.convert.request import ConvertRequest

__all__ = ["about_files", "about_heads"]


def about_files(request: ConvertRequest, model: ModelFile) -> tuple[str, ...]:
    """Notes on the files that parameters of a request came from.

    Args:
        request: what is asked for.
        model: what it is asked of.

    Raises:
        ParameterError: one of them was made for another model, or cannot be read.
        GgufError: ``model`` cannot be read.
    """
    said = about_heads(request.heads, model) if request.heads else ()
    if request.table is None:
        return said
    told = getattr(request.params.get("factor_table"), "model", None)
    return (*said, *require_made_for(request.table, told, model, "made", "ggufrope tune"))


def about_heads(heads: Path, model: ModelFile) -> tuple[str, ...]:
    """Notes on a ``heads.json`` of ``ggufrope calibrate``; a hand-made file of ratios says nothing of a model.

    Raises:
        ParameterError: the scores are another model's, or the file cannot be read.
        GgufError: ``model`` cannot be read.
    """
    return require_made_for(heads, HeadsFile.read(heads).content.get("model"), model, "measured", "ggufrope calibrate")

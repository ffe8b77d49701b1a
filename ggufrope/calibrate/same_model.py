"""Whether ratios from a file were measured on the model that they are about to be written into."""

from __future__ import annotations

from pathlib import Path

from ggufrope.errors import ParameterError
from ggufrope.methods.parameter_files import HeadsFile
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
        ParameterError: the scores are another model's, or the file cannot be read.
        GgufError: ``model`` cannot be read.
    """
    told = HeadsFile.read(heads).content.get("model")
    if told is None:
        return ()
    try:
        record = Identity.from_json(told)
    except ValueError:
        raise ParameterError(f'{heads}: "model" is damaged; run `ggufrope calibrate` again') from None
    here = model.identity
    if difference := record.difference(here):
        raise ParameterError(
            f"{heads}: was measured on another model than {model.path}, which has {difference}; run "
            f"`ggufrope calibrate {model.path.name}`"
        )
    if record.weights != here.weights:
        return (f"{heads.name} was measured on another quantization of this model",)
    return ()

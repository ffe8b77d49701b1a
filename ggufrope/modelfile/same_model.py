"""Whether what was measured or learned on a model is about to be written into the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ggufrope.errors import ParameterError
from ggufrope.modelfile.identity import Identity
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["require_made_for"]


def require_made_for(path: Path, told: Any, model: ModelFile, made: str, command: str) -> tuple[str, ...]:
    """Refuse what another model's file says. A file that says nothing of a model passes.

    Args:
        path: a file of head ratios or factors.
        told: what it says of its model, see ``Identity.as_json``; None: nothing.
        model: the file that they are for.
        made: how the file came about, such as ``measured``.
        command: what makes such a file of a model.

    Returns:
        What a person should know, one sentence each.

    Raises:
        ParameterError: another model's, or no identity.
        GgufError: ``model`` cannot be read.
    """
    if told is None:
        return ()
    try:
        record = Identity.from_json(told)
    except ValueError:
        raise ParameterError(f'{path}: "model" is damaged; run `{command}` again') from None
    here = model.identity
    if difference := record.difference(here):
        raise ParameterError(
            f"{path}: was {made} on another model than {model.path}, which has {difference}; run "
            f"`{command} {model.path.name}`"
        )
    if record.weights != here.weights:
        return (f"{path.name} was {made} on another quantization of this model",)
    return ()

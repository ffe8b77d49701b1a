"""Which chat template goes around what a user says, and the function that puts it there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ggufrope.errors import UsageError
from ggufrope.files import read_text
from ggufrope.inference.chat_template import chat_of, own_template
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["Wrap", "chosen_template", "wrapper"]

Wrap = Callable[[str], str]


def chosen_template(model: ModelFile, given: Path | str | None) -> str | None:
    """The source of the chat template to use; None for none.

    Args:
        model: the file.
        given: a file with a template; ``default``: the model's own, which it must have; ``none``; None: the model's
            own if it has one.

    Raises:
        InputError: a file that cannot be read; or the model has templates under names only.
        UsageError: ``default``, and it has none.
    """
    if given == "none":
        return None
    if isinstance(given, Path):
        return read_text(given, empty="give a chat template, or --no-chat-template")
    own = own_template(model.header)
    if given == "default" and own is None:
        raise UsageError(f"{model.path}: has no chat template; omit --chat-template, or give a FILE with one")
    return own


def wrapper(model: ModelFile, template: str | None, given: Path | str | None, *, adds_bos: bool) -> Wrap:
    """What puts ``template`` around what a user says; for None what leaves it as it is.

    Args:
        model: the file, whose first and last tokens the template gets.
        template: its source, see ``chosen_template``.
        given: where it comes from, as ``chosen_template`` takes it.
        adds_bos: whether the tokenizer puts its first token before every prompt.
    """
    if template is None:
        return lambda text: text
    where = str(given) if isinstance(given, Path) else ""
    return chat_of(model.header, template, adds_bos=adds_bos, where=where).wrap

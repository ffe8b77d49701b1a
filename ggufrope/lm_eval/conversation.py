"""Conversations for lm_eval: the file's own chat template, one of its named ones, or one from a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ggufrope.errors import InputError, UsageError
from ggufrope.files import read_text
from ggufrope.gguf import Header
from ggufrope.gguf.keys import CHAT_TEMPLATE
from ggufrope.inference.chat_template import Chat, chat_of, template_names
from ggufrope.text import did_you_mean

__all__ = ["Template"]

_log = logging.getLogger(__name__)
_REMEDY = "omit --apply_chat_template, or give --model_args chat_template=FILE with another"
Messages = Sequence[Mapping[str, Any]]


class Template:
    """Chooses a template when lm_eval says which, and writes conversations with it."""

    def __init__(self, header: Header, file: Path | None, enable_thinking: bool | None) -> None:
        """Set up; nothing is read yet.

        Args:
            header: of the model.
            file: a template in place of the model's own.
            enable_thinking: told to the template, unless None.
        """
        self._header, self._file = header, file
        self._variables = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        self._name: str | None = None

    def source(self, name: bool | str) -> str:
        """The template in jinja2; from now on it is the one in use.

        Args:
            name: a name, as in the file's ``tokenizer.chat_template.NAME``; True for the one without.

        Raises:
            UsageError: there is no such template.
            InputError: the file given for it cannot be read.
        """
        self._name = name if isinstance(name, str) else None
        return self.current()

    def current(self) -> str:
        """The template in use.

        Raises:
            UsageError, InputError: see ``source``.
        """
        if self._file is not None:
            return read_text(self._file)
        template = self._header.get(CHAT_TEMPLATE if self._name is None else f"{CHAT_TEMPLATE}.{self._name}")
        if not isinstance(template, str) or not template.strip():
            raise UsageError(f"{self._header.path}: {self._missing()}; {_REMEDY}")
        return template

    def write(self, messages: Messages, add_generation_prompt: bool) -> str:
        """A conversation, to which the model shall answer; or whose last message it shall continue.

        A template that refuses a system message gets the conversation without it, as lm_eval does it elsewhere.

        Raises:
            UsageError, InputError: see ``source``; or the template does not work.
        """
        chat = self._chat()
        try:
            text = self._write(chat, messages, add_generation_prompt)
        except InputError:
            rest = [message for message in messages if message["role"] != "system"]
            if len(rest) == len(messages):
                raise
            text = self._write(chat, rest, add_generation_prompt)
            _log.warning("the chat template takes no system message: it was left out")
        return text if add_generation_prompt else _up_to(text, messages[-1]["content"], chat)

    def _write(self, chat: Chat, messages: Messages, add_generation_prompt: bool) -> str:
        return chat.conversation(messages, add_generation_prompt=add_generation_prompt, **self._variables)

    def _chat(self) -> Chat:
        source = self.current()
        where = str(self._file or f"{self._header.path}: {CHAT_TEMPLATE}")
        of_file = chat_of(self._header, source, adds_bos=False)
        return Chat(source, of_file.bos, of_file.eos, where=where, remedy=_REMEDY)

    def _missing(self) -> str:
        named = template_names(self._header)
        if self._name is None:
            return f"has no chat template without a name, only {', '.join(named)}" if named else "has no chat template"
        hint = did_you_mean(self._name, named, f"it has {', '.join(named) or 'none with a name'}")
        return f"has no chat template '{self._name}': {hint}"


def _up_to(text: str, last: str, chat: Chat) -> str:
    """``text`` without what the template puts behind its last message."""
    end = text.rfind(last.strip())
    if end < 0:
        raise InputError(f"{chat.where}: leaves out the last message; {chat.remedy}")
    kept = last if text.startswith(last, end) else last.strip()  # some templates strip messages
    return text[: end + len(kept)]

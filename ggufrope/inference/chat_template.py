"""The model's own chat template around a prompt.

A GGUF carries templates as ``tokenizer.chat_template`` and, under names, ``tokenizer.chat_template.NAME``. They are
jinja2 programs written for transformers; they come with the file, so they run in jinja2's sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from ggufrope.errors import InputError
from ggufrope.gguf.keys import BOS_TOKEN, CHAT_TEMPLATE, EOS_TOKEN, TOKENS

if TYPE_CHECKING:
    from ggufrope.gguf.header import Header

__all__ = ["Chat", "chat_of", "final_prompt", "own_template", "template_names"]

_REMEDY = "--no-chat-template does without, --chat-template FILE takes another"
# Templates that state the date must state the same one in every run; this is Llama 3's when nobody says what day it is.
_TODAY = datetime(2024, 7, 26, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Chat:
    """A template, with what a model brings to it.

    Attributes:
        template: jinja2 source.
        bos: text of the token that begins a text; empty for none.
        eos: text of the token that ends one; empty for none.
        adds_bos: whether the tokenizer puts its first token before every prompt; the template's is then left out.
        where: where the template comes from, for messages.
        remedy: what one can do when it does not work, for messages.
    """

    template: str
    bos: str = ""
    eos: str = ""
    adds_bos: bool = False
    where: str = "chat template"
    remedy: str = _REMEDY

    def wrap(self, prompt: str) -> str:
        """``prompt`` as the user's one message, up to where the model's answer begins.

        A model that may think first is told not to, as far as its template has a switch for it: answers have few
        tokens.

        Raises:
            InputError: the template is not jinja2, raises an error, or leaves the message out.
        """
        message = prompt.rstrip()
        text = self._render(message)
        if message not in text:  # written for messages in parts: text, images
            text = self._render([{"type": "text", "text": message}])
        if message not in text:
            raise InputError(f"{self.where}: leaves out what the user says; {self.remedy}")
        return text.removeprefix(self.bos) if self.bos and self.adds_bos else text

    def conversation(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """Messages (``role``, ``content``) as the template writes them, its first token included.

        Args:
            messages: the conversation so far.
            add_generation_prompt: whether the model's answer begins behind it.
            **variables: what else the template is told.

        Raises:
            InputError: the template is not jinja2, or raises an error.
        """
        compiled = _compiled(self.template, self.where, self.remedy)
        try:
            return compiled(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos,
                eos_token=self.eos,
                **variables,
            )
        except Exception as error:  # a template is a program: it can raise anything
            raise InputError(f"{self.where}: fails: {_one_line(error)}; {self.remedy}") from None

    def _render(self, content: str | list[dict[str, str]]) -> str:
        return self.conversation([{"role": "user", "content": content}], enable_thinking=False)


def final_prompt(chat: Chat | None, prompt: str, start: str) -> str:
    """All that the model reads before it answers: ``prompt`` in its template, or as it is, and the answer's ``start``.

    Raises:
        InputError: see ``Chat.wrap``.
    """
    return (prompt if chat is None else chat.wrap(prompt)) + start


def own_template(header: Header) -> str | None:
    """The template in a file; the one without a name where there are several (the others are for tools and the like).

    Raises:
        InputError: there are only templates with names, or something that is no text.
    """
    template = header.get(CHAT_TEMPLATE)
    if template is None:
        if named := template_names(header):
            raise InputError(
                f"{header.path}: {CHAT_TEMPLATE}: only under names ({', '.join(named)}), none for plain chat; {_REMEDY}"
            )
        return None
    if not isinstance(template, str):
        raise InputError(f"{header.path}: {CHAT_TEMPLATE}: text is needed, found {type(template).__name__}; {_REMEDY}")
    return template if template.strip() else None


def template_names(header: Header) -> list[str]:
    """Names of the templates in a file that have one."""
    start = f"{CHAT_TEMPLATE}."
    return [field.key.removeprefix(start) for field in header.fields if field.key.startswith(start)]


def chat_of(header: Header, template: str, *, adds_bos: bool, where: str = "") -> Chat:
    """``template`` with the first and last tokens of a file's vocabulary.

    Args:
        header: the file's.
        template: jinja2 source: the file's own, or another.
        adds_bos: whether the tokenizer puts its first token before every prompt.
        where: the template's source, for messages; the file when empty.
    """
    bos, eos = (_token(header, key) for key in (BOS_TOKEN, EOS_TOKEN))
    return Chat(template, bos, eos, adds_bos, where or f"{header.path}: {CHAT_TEMPLATE}")


def _token(header: Header, key: str) -> str:
    """The text of the token that ``key`` names; empty where there is none."""
    index, tokens = header.get(key), header.get(TOKENS)
    if not isinstance(index, int) or not isinstance(tokens, list) or not 0 <= index < len(tokens):
        return ""
    return str(tokens[index])


@lru_cache(maxsize=8)
def _compiled(template: str, where: str, remedy: str) -> Callable[..., str]:
    """The template's render function.

    Raises:
        InputError: it cannot be compiled, or there is no jinja2.
    """
    try:
        import jinja2
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise InputError(f"{where}: needs jinja2: pip install jinja2; or {remedy}") from None

    class Generation(Extension):
        """``{% generation %}`` marks what is trained on; nothing to do here."""

        tags = {"generation"}  # noqa: RUF012  # jinja2's own declaration

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=_TODAY.strftime)
    try:
        return environment.from_string(template).render
    except jinja2.TemplateError as error:
        raise InputError(f"{where}: not a jinja2 template: {_one_line(error)}; {remedy}") from None


def _to_json(value: Any, **options: Any) -> str:
    """As transformers does: without jinja2's HTML escapes."""
    return json.dumps(value, ensure_ascii=options.pop("ensure_ascii", False), **options)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

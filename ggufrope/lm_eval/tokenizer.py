"""Text to tokens and back, as lm_eval's own class for transformers' models has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ggufrope.errors import UsageError
from ggufrope.gguf import Header
from ggufrope.gguf.keys import BOS_TOKEN, EOS_TOKEN

__all__ = ["LmTokens"]


class _Engine(Protocol):
    begins_with_bos: bool

    def tokens(self, text: str, *, special: bool = False) -> list[int]: ...

    def prompt(self, text: str) -> list[int]: ...

    def text(self, ids: Sequence[int]) -> str: ...


class LmTokens:
    """A file's tokenizer, with a BOS where the file wants one or where it was asked for.

    Attributes:
        bos: the token that begins a text; None if the file names none.
        eos: the token that ends one; None if the file names none.
    """

    def __init__(self, engine: _Engine, header: Header, *, add_bos: bool | None, prefix: int | None) -> None:
        """Set up.

        Args:
            engine: knows the vocabulary.
            header: of the file.
            add_bos: whether texts begin with a BOS; None: as the file says.
            prefix: stands for an empty context; None: BOS, or EOS.

        Raises:
            UsageError: a BOS is wanted, and the file names none.
        """
        self._engine, self._prefix = engine, prefix
        self._add_bos = engine.begins_with_bos if add_bos is None else add_bos
        first = engine.prompt("")[:1] if engine.begins_with_bos else []
        self.bos = first[0] if first else _id(header, BOS_TOKEN)
        self.eos = _id(header, EOS_TOKEN)
        self._where = header.path
        if self._add_bos and self.bos is None:
            raise UsageError(f"--model_args: add_bos_token=true: {header.path} names no BOS; drop it")
        # a vocabulary that puts a space before every text takes it away again: tokens → text → tokens must agree
        self._drops_space = engine.text(engine.tokens("a")) == " a"

    @property
    def prefix(self) -> int:
        """What an empty context is replaced by.

        Raises:
            UsageError: the file names neither BOS nor EOS.
        """
        chosen = next((t for t in (self._prefix, self.bos, self.eos) if t is not None), None)
        if chosen is None:
            raise UsageError(
                f"{self._where}: a text has to follow something, and the file names neither BOS nor EOS; "
                "--model_args prefix_token_id=N names a token"
            )
        return chosen

    def encode(self, text: str, add_bos: bool | None = None) -> list[int]:
        """Tokens of ``text``; names of special tokens in it mean those, and a BOS that it begins with is the only one.

        Args:
            text: any text.
            add_bos: whether to put a BOS first; None: as set up.
        """
        ids = self._engine.tokens(text, special=True)
        wanted = self._add_bos if add_bos is None else add_bos
        if wanted and self.bos is not None and ids[:1] != [self.bos]:
            ids.insert(0, self.bos)
        return ids

    def clean(self, text: str) -> str:
        """``text``, as the engine wrote it, without the space that only means the beginning of a word."""
        return text.removeprefix(" ") if self._drops_space else text

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``."""
        return self.clean(self._engine.text(ids))

    def silent(self, text: str) -> int | None:
        """The special token whose name ``text`` is, which leaves no trace in an answer; None for other texts."""
        ids = self._engine.tokens(text, special=True)
        return ids[0] if len(ids) == 1 and not self._engine.text(ids) else None


def _id(header: Header, key: str) -> int | None:
    token = header.get(key)
    return token if isinstance(token, int) and token >= 0 else None

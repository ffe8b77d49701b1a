"""Prompts of several lengths, cut from texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ggufrope.errors import InputError, UsageError
from ggufrope.files import decoded, read_bytes

__all__ = ["Cut", "PromptText", "check_sizes", "cut", "default_lengths", "read_texts"]

_LONGEST_BY_DEFAULT = 4096
_SHORTEST = 16  # three times the mean is no threshold for a handful of keys


@dataclass(frozen=True, slots=True)
class PromptText:
    """A text file: its name, bytes and sha256."""

    name: str
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Cut:
    """One prompt: ``length`` tokens with what the model puts in front, from token ``start`` of text ``text``."""

    text: int
    start: int
    length: int


def default_lengths(train_ctx: int) -> tuple[int, ...]:
    """A quarter, half and all of the trained context, which counts as 4096 at most."""
    top = min(train_ctx, _LONGEST_BY_DEFAULT)
    return tuple(sorted({max(_SHORTEST, top // 4), max(_SHORTEST, top // 2), max(_SHORTEST, top)}))


def read_texts(paths: Sequence[Path], longest: int) -> list[PromptText]:
    """The files' bytes, checked as far as this goes without the model's tokenizer.

    Args:
        paths: UTF-8 text.
        longest: tokens that the longest prompt needs.

    Raises:
        InputError: a file that cannot be read, is empty, not UTF-8, or certainly too short.
        UsageError: no text at all.
    """
    if not paths:
        raise UsageError("no text to calibrate on: add --text FILE, some pages of what the model is used for")
    texts = []
    for path in paths:
        data = read_bytes(path)
        decoded(path, data, empty=f"give a text of at least {longest} tokens")
        if len(data) < longest:
            raise InputError(f"{path}: {len(data)} bytes are less than one prompt of {longest} tokens; {_REMEDY}")
        texts.append(PromptText(path.name, data, hashlib.sha256(data).hexdigest()))
    return texts


_REMEDY = "give a longer text, or shorter prompts with `ggufrope calibrate --lengths`"


def check_sizes(lengths: Sequence[int], n: int) -> None:
    """Refuse lengths of prompts, or a number of them, that make no sense.

    Raises:
        UsageError: no prompt, or one too short to score.
    """
    if not lengths or min(lengths) < _SHORTEST:
        shown = ",".join(map(str, lengths))
        raise UsageError(f"--lengths {shown}: prompts of at least {_SHORTEST} tokens are needed")
    if n < 1:
        raise UsageError(f"--prompts {n}: at least 1 of each length is needed")


def cut(texts: Sequence[Sequence[int]], names: Sequence[str], lengths: Sequence[int], n: int, front: int) -> list[Cut]:
    """``n`` prompts of each length, evenly spread over each text, the texts taking turns.

    Args:
        texts: token ids of each text.
        names: their names, for the message.
        lengths: tokens of a prompt.
        n: prompts of each length.
        front: how many of them the model puts in front of a text.

    Raises:
        UsageError: lengths or a number of prompts that make no sense.
        InputError: a text with fewer tokens than the longest prompt.
    """
    check_sizes(lengths, n)
    for name, ids in zip(names, texts, strict=True):
        if len(ids) < max(lengths) - front:
            raise InputError(f"{name}: {len(ids)} tokens are less than one prompt of {max(lengths)}; {_REMEDY}")
    place: Callable[[int, int, int], int] = lambda span, i, of: span * i // max(of - 1, 1)  # noqa: E731  # a formula
    cuts = []
    for length in lengths:
        for i in range(n):
            text, turn = i % len(texts), i // len(texts)
            turns = (n - text + len(texts) - 1) // len(texts)
            cuts.append(Cut(text, place(len(texts[text]) - (length - front), turn, turns), length))
    return cuts

"""The token ids that both sides read."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from ggufrope.errors import UsageError
from ggufrope.files import decoded, read_bytes

__all__ = ["Tokenizer", "random_ids", "text_ids"]


class Tokenizer(Protocol):
    """The part of a session that is needed here."""

    n_vocab: int
    first_token: int | None

    def tokens(self, text: str, *, whole: bool = False, special: bool = False) -> list[int]:
        """Tokens of a text; ``whole``: with what the model wants around it."""
        ...


def random_ids(model: Tokenizer, length: int, seed: int = 0) -> list[int]:
    """``length`` ids drawn evenly from the vocabulary, after the model's first token if it has one.

    Needs no text, reaches every part of the vocabulary, and puts no position at an advantage.
    """
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, model.n_vocab, length)]
    return ids if model.first_token is None else [model.first_token, *ids[1:]]


def text_ids(model: Tokenizer, path: Path, length: int) -> list[int]:
    """The first ``length`` tokens of a text file, by the GGUF's own tokenizer; the reference is fed the same ids.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
        UsageError: it has fewer tokens.
    """
    text = decoded(path, read_bytes(path))
    # few vocabularies take more than 16 characters for a token on average: most texts need not be read to their end
    ids = model.tokens(text[: 16 * length], whole=True)
    if len(ids) < length:
        ids = model.tokens(text, whole=True)
    if len(ids) < length:
        raise UsageError(f"{path}: has {len(ids)} tokens, --length {length} needs more; give a longer text")
    return ids[:length]

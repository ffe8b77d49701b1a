"""The token ids that both sides read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ggufrope.errors import UsageError
from ggufrope.files import decoded, read_bytes

if TYPE_CHECKING:
    from llama_cpp import Llama

__all__ = ["random_ids", "text_ids"]


def random_ids(model: Llama, length: int, seed: int = 0) -> list[int]:
    """``length`` ids drawn evenly from the vocabulary, after the model's first token if it has one.

    Needs no text, reaches every part of the vocabulary, and puts no position at an advantage.
    """
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, model.n_vocab(), length)]
    first = model.token_bos()
    return [first, *ids[1:]] if first >= 0 else ids


def text_ids(model: Llama, path: Path, length: int) -> list[int]:
    """The first ``length`` tokens of a text file, by the GGUF's own tokenizer; the reference is fed the same ids.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
        UsageError: it has fewer tokens.
    """
    text = read_bytes(path)
    decoded(path, text)
    # a token stands for at least one byte on average in no vocabulary: 16 bytes each are plenty to cut from
    ids = model.tokenize(text[: 16 * length], add_bos=True)
    if len(ids) < length:
        ids = model.tokenize(text, add_bos=True)
    if len(ids) < length:
        raise UsageError(f"{path}: has {len(ids)} tokens, --length {length} needs more; give a longer text")
    return list(ids[:length])

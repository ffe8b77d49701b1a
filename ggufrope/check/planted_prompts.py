"""Prompts from a text with phrases planted in their middle, which the end repeats.

A phrase is a key and a value, tokens drawn from the text one by one: nothing but the phrase itself says which value
follows a key, so a model that predicts it at the end has found and copied it. Several phrases in one prompt are each
other's distractors, as in key-value retrieval. All tokens of the text beside them give the loss on plain text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PlantedPrompt", "plant", "text_tokens"]

Places = npt.NDArray[np.intp]

_KEY, _VALUE = 4, 4
_PHRASE = _KEY + _VALUE
_TOKENS_A_PHRASE = 32  # of the prompt: phrases and their repetitions are half of it at most
_MOST_PHRASES = 8


@dataclass(frozen=True, slots=True)
class PlantedPrompt:
    """Tokens, and which of them are predicted from what.

    Attributes:
        ids: all tokens.
        plain: places of tokens of the text that the text before them predicts.
        unseen: places of values where they stand for the first time.
        copied: places of the same values, in another order of phrases, at the end.
    """

    ids: tuple[int, ...]
    plain: Places
    unseen: Places
    copied: Places


def text_tokens(length: int, front: int) -> int:
    """How many tokens of a text a prompt of ``length`` tokens has, ``front`` of which the model puts in front."""
    return length - front - 2 * _PHRASE * _phrases(length)


def plant(text: Sequence[int], front: Sequence[int], length: int, seed: int) -> PlantedPrompt:
    """A prompt of ``length`` tokens.

    Args:
        text: token ids, at least ``text_tokens``; those of phrases are drawn from them.
        front: what the model wants in front, a BOS for example.
        length: of the prompt; at least 64.
        seed: for the phrases and their order at the end.
    """
    n, body = _phrases(length), list(text[: text_tokens(length, len(front))])
    rng = random.Random(seed)
    phrases = [[rng.choice(body) for _ in range(_PHRASE)] for _ in range(n)]
    ids, plain, unseen = list(front), list[int](), dict[int, range]()
    cuts = [len(body) // 4 + len(body) * i // (2 * n) for i in range(n)]  # over the middle half
    for i, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(body)], strict=True)):
        after = _KEY if i else 1  # the text goes on behind a phrase: the first tokens see more of that than of the text
        plain.extend(range(len(ids) + after, len(ids) + end - start))
        ids += body[start:end]
        if i < n:
            unseen[i] = range(len(ids) + _KEY, len(ids) + _PHRASE)
            ids += phrases[i]
    copied: list[int] = []
    for i in rng.sample(range(n), n):
        copied.extend(range(len(ids) + _KEY, len(ids) + _PHRASE))
        ids += phrases[i]
    first = [place for value in unseen.values() for place in value]
    return PlantedPrompt(tuple(ids), *(np.array(p, np.intp) for p in (plain, first, copied)))


def _phrases(length: int) -> int:
    return max(1, min(_MOST_PHRASES, length // _TOKENS_A_PHRASE))

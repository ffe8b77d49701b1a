"""How right an output is: pure functions of text, and when more of it could not change that.

Each score comes with a ``..._settled`` that may be False at any time, but is True only where no continuation of the
output can change the score. An output may end inside a character: the replacement characters at its end count as
not yet known.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from functools import lru_cache

__all__ = [
    "best_subspan",
    "best_subspan_settled",
    "best_words",
    "best_words_settled",
    "exact_prefix",
    "exact_prefix_settled",
    "first_named",
    "first_named_settled",
    "normalized",
    "share_found",
    "share_found_settled",
]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNFINISHED = "\ufffd"


def share_found(output: str, answers: Sequence[str]) -> float:
    """The share of ``answers`` that stand anywhere in ``output``, whatever the case.

    RULER's string_match_all (arXiv 2404.06654). Case is folded character by character, so that what has been found
    stays found whatever follows.
    """
    text = output.casefold()
    return sum(answer.casefold() in text for answer in answers) / len(answers)


def share_found_settled(output: str, answers: Sequence[str]) -> bool:
    """Whether all have been found."""
    return share_found(output, answers) == 1.0


def exact_prefix(output: str, answers: Sequence[str]) -> float:
    """1 when ``output``, white space aside, begins with an answer that no further letter or digit makes longer."""
    text = output.lstrip()
    return float(any(text.startswith(a) and not text[len(a) : len(a) + 1].isalnum() for a in answers))


def exact_prefix_settled(output: str, answers: Sequence[str]) -> bool:
    """Whether the character after each answer is there, or something else stands in its place."""
    text = output.rstrip(_UNFINISHED).lstrip()
    return all(len(text) > len(a) or not a.startswith(text) for a in answers)


def first_named(output: str, names: tuple[str, ...], answers: Sequence[str]) -> float:
    """1 when the first of ``names`` in ``output`` is one of ``answers``; whole words, whatever the case.

    Who lists every name that there is has answered nothing, so names after the first do not count.

    Args:
        output: what was answered.
        names: all answers that the question may have, single words.
        answers: the right ones among them.
    """
    match = _any_of(names).search(output)
    return float(match is not None and match.group().casefold() in {answer.casefold() for answer in answers})


def first_named_settled(output: str, names: tuple[str, ...]) -> bool:
    """Whether a name stands there, and the character after it."""
    text = output.rstrip(_UNFINISHED)
    match = _any_of(names).search(text)
    return match is not None and match.end() < len(text)


@lru_cache(maxsize=64)
def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)", re.IGNORECASE)


def normalized(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces (SQuAD's, used by arXiv 2307.03172)."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def best_subspan(output: str, answers: Sequence[str]) -> float:
    """1 when the first line of ``output`` holds one of ``answers``, both normalized (arXiv 2307.03172)."""
    line = normalized(output.split("\n", 1)[0])
    return float(any(normalized(answer) in line for answer in answers))


def best_subspan_settled(output: str, answers: Sequence[str]) -> bool:
    """Whether the line has ended, or an answer stands before its last word, which may still grow."""
    return _line_settled(output, answers, best_subspan)


def best_words(output: str, answers: Sequence[str]) -> float:
    """As ``best_subspan``, of whole words (``no`` does not stand in ``known``), in the first line that is not empty."""
    line = normalized(output.lstrip().split("\n", 1)[0])
    return float(any(f" {normalized(answer)} " in f" {line} " for answer in answers))


def best_words_settled(output: str, answers: Sequence[str]) -> bool:
    """Whether the line has ended, or an answer stands before its last word, which may still grow."""
    return _line_settled(output.lstrip(), answers, best_words)


def _line_settled(output: str, answers: Sequence[str], score: Callable[[str, Sequence[str]], float]) -> bool:
    if "\n" in output:
        return True
    words = re.match(r"(.*)\s", output, re.DOTALL)
    return words is not None and score(words.group(1), answers) == 1.0

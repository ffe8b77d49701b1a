"""What a run has to say about a result: a sentence for people, and a code for programs.

Every sentence is written here, so that a code is all that others need to know of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "Note",
    "NoteCode",
    "all_empty",
    "baseline_beyond_context",
    "beyond_context",
    "fewer_texts_in_file",
    "fewer_texts_in_text",
    "one_text",
    "read_notes",
    "some_empty",
]


class NoteCode(str, Enum):
    """What kind of note it is. Codes are only ever added; readers keep those that they do not know."""

    BEYOND_CONTEXT = "beyond-context"
    BASELINE_BEYOND_CONTEXT = "baseline-beyond-context"
    FEWER_TEXTS = "fewer-texts"
    ONE_TEXT = "one-text"
    NARROW_INTERVAL = "narrow-interval"
    ALL_EMPTY = "all-empty"
    SOME_EMPTY = "some-empty"

    @property
    def meaning(self) -> str:
        """For the documentation."""
        return _MEANING[self]


_MEANING = {
    NoteCode.BEYOND_CONTEXT: "more tokens were read together than the file's context holds",
    NoteCode.BASELINE_BEYOND_CONTEXT: "the same of the baseline",
    NoteCode.FEWER_TEXTS: "the data or the text was enough for fewer texts than `--limit`",
    NoteCode.ONE_TEXT: "one text only, so there is no interval",
    NoteCode.NARROW_INTERVAL: "in older lines: so few texts that a bootstrap's interval is too narrow",
    NoteCode.ALL_EMPTY: "every answer was empty",
    NoteCode.SOME_EMPTY: "some answers were empty",
}


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence with its code.

    Attributes:
        code: a ``NoteCode``'s value, or a later version's; empty for a sentence of an old line that is none of ours.
        text: the sentence.
    """

    code: str
    text: str


def beyond_context(tokens: int, context: int) -> Note:
    """``tokens`` were read together by a file with a smaller ``context``."""
    return _note(NoteCode.BEYOND_CONTEXT, f"{tokens} tokens are beyond the file's context of {context}")


def baseline_beyond_context(context: int) -> Note:
    """The same of the baseline, whose ``context`` it is."""
    text = f"the baseline was read beyond its context of {context} tokens: to be near it is no merit there"
    return _note(NoteCode.BASELINE_BEYOND_CONTEXT, text)


def fewer_texts_in_file(texts: int, limit: int) -> Note:
    """A data file has ``texts`` examples, and ``limit`` were asked for."""
    return _note(NoteCode.FEWER_TEXTS, f"the file is enough for {texts} texts, not for {limit}")


def fewer_texts_in_text(texts: int, length: int, limit: int) -> Note:
    """A text has ``texts`` pieces of ``length`` tokens, and ``limit`` were asked for."""
    text = f"the text is enough for {texts} texts of {length} tokens, not for {limit}"
    return _note(NoteCode.FEWER_TEXTS, text)


def one_text() -> Note:
    """A single text was read."""
    return _note(NoteCode.ONE_TEXT, "one text says nothing about others: there is no interval")


def all_empty() -> Note:
    """No answer has a visible character."""
    text = (
        "the model said nothing at all, in every answer: the score says nothing about long contexts; look at the "
        "chat template (--chat-template, --no-chat-template) and at the wording"
    )
    return _note(NoteCode.ALL_EMPTY, text)


def some_empty(empty: int, n: int) -> Note:
    """``empty`` of ``n`` answers have no visible character."""
    text = f"{empty} of {n} answers are empty: the model ended at once or wrote white space only"
    return _note(NoteCode.SOME_EMPTY, text)


#: Sentences of lines that were written before there were codes.
_SENTENCES = (
    (NoteCode.BEYOND_CONTEXT, r"\d+ tokens are beyond the file's context of \d+"),
    (NoteCode.BASELINE_BEYOND_CONTEXT, r"the baseline was read beyond its context of \d+ tokens: .*"),
    (NoteCode.FEWER_TEXTS, r"the (file|text) is enough for \d+ texts( of \d+ tokens)?, not for \d+"),
    (NoteCode.ONE_TEXT, r"one text says nothing about others: .*"),
    (NoteCode.NARROW_INTERVAL, r"a bootstrap over fewer than \d+ texts gives .*"),
    (NoteCode.ALL_EMPTY, r"the model said nothing at all, in every answer: .*"),
    (NoteCode.SOME_EMPTY, r"\d+ of \d+ answers are empty: .*"),
)


def read_notes(sentences: Sequence[str], codes: Sequence[str] | None) -> tuple[Note, ...]:
    """The notes of a line of results.

    Args:
        sentences: its ``notes``.
        codes: its ``note_codes``, as many; None for a line from before there were any.
    """
    if codes is None:
        codes = [_code(sentence) for sentence in sentences]
    return tuple(Note(code, sentence) for code, sentence in zip(codes, sentences, strict=True))


def _code(sentence: str) -> str:
    return next((code.value for code, pattern in _SENTENCES if re.fullmatch(pattern, sentence)), "")


def _note(code: NoteCode, text: str) -> Note:
    return Note(code.value, text)

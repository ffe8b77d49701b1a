"""What a needle, its question and the text around it say; a JSON file may say it in another language."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufrope.errors import InputError, UsageError
from ggufrope.evals.tasks.haystack import as_json, from_list, from_text, made_up, read_sentences, unpacked
from ggufrope.evals.tasks.words import pairs

__all__ = ["ENGLISH", "WORDING", "Wording", "read_wording"]

#: The option that names a wording.
WORDING = {"help": "JSON file with other wordings of needles and questions", "kind": "file"}


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of a needle task. In most ``{key}`` stands for the key, in some ``{value}`` for the value.

    Attributes:
        needle: a fact; holds ``{key}`` and ``{value}``.
        question: stands after the text, with the white space before it and after it. It or ``start`` holds ``{key}``.
        start: the beginning of the answer.
        answer: how the answer goes on; holds ``{value}``.
        question_all: the question when a key has several values; as ``question`` when empty.
        start_all: the beginning of that answer; as ``start`` when empty.
        question_keys: the question about several keys. It or ``start_keys`` holds ``{keys}``, where they stand.
        start_keys: the beginning of that answer. When both are empty, ``question_all`` and ``start_all`` (or
            ``question`` and ``start``) take all of the keys in place of one.
        preamble: stands before the text.
        separator: stands between two sentences.
        keys: what is asked for.
        values: what is answered; empty: seven-digit numbers.
        filler: sentences to hide the needles among; empty: made up ones.
        max_new: tokens that one value may take; None: the task's own default.
    """

    needle: str
    question: str = ""
    start: str = ""
    answer: str = " {value}"
    question_all: str = ""
    start_all: str = ""
    question_keys: str = ""
    start_keys: str = ""
    preamble: str = ""
    separator: str = " "
    keys: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    filler: tuple[str, ...] = ()
    max_new: int | None = None

    def asks_all(self, key: str) -> tuple[str, str]:
        """The question about all values of a key, and the beginning of the answer."""
        question, start = self.question_all or self.question, self.start_all or self.start
        return question.replace("{key}", key), start.replace("{key}", key)

    def asks_keys(self, keys: Sequence[str]) -> tuple[str, str]:
        """The question about the values of several keys, and the beginning of the answer."""
        listed = ", ".join(keys)
        question, start = self.asks_all(listed)
        if self.question_keys or self.start_keys:
            question, start = (text.replace("{keys}", listed) for text in (self.question_keys, self.start_keys))
        return question, start

    def sentences(self, rng: random.Random, haystack: Path | None) -> Iterator[str]:
        """Filler without end: from the file ``haystack``, of this wording, or made up."""
        if haystack is not None:
            return from_text(read_sentences(haystack), rng)
        return from_list(self.filler, rng) if self.filler else made_up(rng)

    def facts(self, rng: random.Random, keys: int, values: int) -> tuple[list[str], list[str]]:
        """Different keys and different values.

        Raises:
            UsageError: more than there are.
        """
        if self.values:
            _enough("values", values, len(self.values))
        _enough("keys", keys, len(self.keys))
        chosen = rng.sample(self.keys, keys)
        if self.values:
            return chosen, rng.sample(self.values, values)
        return chosen, [str(number) for number in rng.sample(range(10**6, 10**7), values)]


ENGLISH = Wording(
    needle="The code number of the {key} is {value}.",
    question="\n\nWhat is the code number of the {key}? It stands in the text above.\n",
    start="The code number of the {key} is",
    question_all="\n\nWhat are all the code numbers of the {key}? They stand in the text above.\n",
    start_all="The code numbers of the {key} are",
    question_keys="\n\nWhat are the code numbers of these: {keys}? They stand in the text above.\n",
    start_keys="The code numbers of the {keys} are",
    preamble="Some code numbers are hidden in the following text. Remember them, you will be asked for them.\n\n",
    keys=pairs(),
)


def read_wording(path: Path | None) -> Wording:
    """The wording in a JSON file: an object with the attributes of ``Wording``; the English one for None.

    Raises:
        InputError: unreadable, not JSON, or a key that is missing, unknown or of another kind.
    """
    if path is None:
        return ENGLISH
    try:
        value = as_json(unpacked(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); correct it there") from None
    if not isinstance(value, dict):
        raise InputError(f'{path}: an object such as {{"needle": "..."}} is needed, found {type(value).__name__}')
    fields = {field.name: field for field in dataclasses.fields(Wording)}
    if strange := sorted(value.keys() - fields.keys() - {"about"}):
        raise InputError(f"{path}: unknown key '{strange[0]}'; known: {', '.join(fields)}, about")
    read = {key: _checked(path, key, item) for key, item in value.items() if key != "about"}
    return _whole(path, read)


def _checked(path: Path, key: str, item: Any) -> Any:
    """``item`` as the attribute ``key`` wants it."""
    if key == "max_new":
        if isinstance(item, bool) or not isinstance(item, int) or item < 1:
            raise InputError(f"{path}: {key} is {item!r}; a whole number from 1 on is needed")
        return item
    if key in ("keys", "values", "filler"):
        if not isinstance(item, list) or not all(isinstance(word, str) and word.strip() for word in item):
            raise InputError(f"{path}: {key}: a list of strings is needed, none of them empty")
        if key != "filler" and len(set(item)) < len(item):
            again = next(word for word in item if item.count(word) > 1)
            raise InputError(f"{path}: {key}: '{again}' stands there twice; each may be there once")
        return tuple(item)
    if not isinstance(item, str):
        raise InputError(f"{path}: {key}: a string is needed, found {item!r:.60}")
    return item


def _whole(path: Path, read: dict[str, Any]) -> Wording:
    """A wording whose parts fit together."""
    wording = Wording(**{"needle": "", **read})
    for key, text in (("needle", "{key}"), ("needle", "{value}"), ("answer", "{value}")):
        if text not in getattr(wording, key):
            raise InputError(f"{path}: {key}: no {text} in {getattr(wording, key)!r}; it says where to put it")
    if "{key}" not in wording.question + wording.start:
        raise InputError(
            f"{path}: neither question nor start holds {{key}}: nothing would be asked for; put it into one of them"
        )
    several = wording.question_keys + wording.start_keys
    if several and "{keys}" not in several:
        raise InputError(f"{path}: neither question_keys nor start_keys holds {{keys}}; put it into one of them")
    if not wording.keys:
        raise InputError(f"{path}: keys: none given; a list of strings is needed")
    every = "\n".join(wording.values).casefold()
    if inside := [value for value in wording.values if every.count(value.casefold()) > 1]:
        raise InputError(
            f"{path}: values: '{inside[0]}' stands inside another one: answers could not be told apart; "
            "choose another word"
        )
    return wording


def _enough(what: str, asked: int, there: int) -> None:
    if asked > there:
        raise UsageError(f"{asked} {what} are needed for each text, the wording has {there}; ask for fewer keys")

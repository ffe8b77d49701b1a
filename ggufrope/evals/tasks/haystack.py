"""Text that needles are hidden in: sentences made up here, or cut from a file."""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ggufrope.errors import InputError
from ggufrope.files import decoded, read_bytes, stamp

__all__ = [
    "FEWEST",
    "HAYSTACK",
    "PEOPLE",
    "PLACES_AROUND",
    "Filler",
    "as_json",
    "from_list",
    "from_text",
    "made_up",
    "read_sentences",
    "sentences",
    "unpacked",
    "unused",
]

#: The option that names a text.
HAYSTACK = {"help": "UTF-8 text (gzip or plain) to hide facts in; a short one repeats", "kind": "file", "parts": "text"}

#: Sentences of a file; with fewer, a text is the same few lines over and over.
FEWEST = 20


def _words(text: str) -> list[str]:
    return text.split()


# Upper-case words are slots. No digits anywhere: needles are numbers.
_PATTERNS = tuple(
    _words(pattern)
    for pattern in (
        "The SIZE THING stood in the PLACE all TIME .",
        "Nobody in the PLACE had seen the PERSON since the SEASON .",
        "Every SEASON the PERSON walked to the PLACE with a SIZE THING .",
        "It was a WEATHER TIME , and the PLACE was full of people .",
        "The PERSON put the THING next to the THING and went home .",
        "A WEATHER wind came from the PLACE and moved the THING a little .",
        "In the PLACE they still tell stories about the PERSON and the THING .",
        "Most people like the PLACE best in SEASON , when it is quiet .",
        "The PERSON cleaned the THING , closed the door and waited .",
        "There was bread on the table , and the PERSON made some tea .",
        "From the PLACE one can see as far as the PLACE on a WEATHER TIME .",
        "They painted the THING in the SEASON and sold it to the PERSON .",
        "Nothing much happened in the PLACE that TIME .",
        "The road from the PLACE to the PLACE is long and rather SIZE .",
        "A SIZE THING is not easy to carry , said the PERSON .",
        "When the rain stopped , the PERSON opened the window of the PLACE .",
        "The children found a SIZE THING behind the PLACE .",
        "By the end of the SEASON the THING was as good as new .",
        "Some say that the PERSON never liked the PLACE at all .",
        "The PERSON and the PERSON talked about the WEATHER TIME .",
        "Birds were singing near the PLACE while the PERSON slept .",
        "The old clock of the PLACE is slow , but nobody minds .",
        "On a WEATHER TIME the PLACE smells of wood and apples .",
        "The PERSON bought a THING for the PLACE and paid in coins .",
    )
)
_SLOTS = {
    "SIZE": _words("big small heavy narrow plain wide old new broken bright dusty round"),
    "THING": _words("boat chair ladder basket lamp cart mirror wheel bench kettle barrel carpet bell drum fence shelf"),
    "PLACE": _words("mill harbour market garden school station library forest bridge village church kitchen farm"),
    "PERSON": _words("baker teacher farmer painter sailor doctor gardener miller driver singer writer neighbour"),
    "TIME": _words("morning afternoon evening night day week"),
    "SEASON": _words("spring summer autumn winter"),
    "WEATHER": _words("cold warm grey windy sunny foggy rainy mild"),
}
#: Whom and what generated sentences speak of: who answers with one of them has taken the hay for the needle.
PEOPLE, PLACES_AROUND = tuple(_SLOTS["PERSON"]), tuple(_SLOTS["PLACE"])
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)]*(?=\s|$)|$)", re.DOTALL)


class Filler:
    """An endless run of sentences; the first ``n`` are the same however often they are asked for."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._taken: list[str] = []

    def take(self, n: int) -> list[str]:
        """The first ``n`` sentences."""
        while len(self._taken) < n:
            self._taken.append(next(self._source))
        return self._taken[:n]


def made_up(rng: random.Random) -> Iterator[str]:
    """Plain English sentences without end; none holds a digit."""
    while True:
        words = [rng.choice(_SLOTS[word]) if word in _SLOTS else word for word in rng.choice(_PATTERNS)]
        yield " ".join(words).replace(" .", ".").replace(" ,", ",")


def from_list(units: Sequence[str], rng: random.Random) -> Iterator[str]:
    """``units`` in random order; when all were used, again in another order."""
    while True:
        yield from rng.sample(units, len(units))


def from_text(units: Sequence[str], rng: random.Random) -> Iterator[str]:
    """``units`` in their own order, from a random one on; after the last comes the first: long texts repeat."""
    place = rng.randrange(len(units))
    while True:
        yield units[place]
        place = (place + 1) % len(units)


def unused(haystack: Path | None, phrases: Sequence[str]) -> list[str]:
    """Those of ``phrases`` that stand nowhere in a haystack as whole words, whatever the case; all of them for None.

    Generated sentences have no proper names; a file may have any, and then tells of them itself.

    Raises:
        InputError: a file that cannot be used.
    """
    if haystack is None:
        return list(phrases)
    text = _as_words(haystack, stamp(haystack))
    return [phrase for phrase in phrases if f" {_spaced(phrase)} " not in text]


@lru_cache(maxsize=4)
def _as_words(path: Path, _stamp: tuple[int, int]) -> str:
    return f" {_spaced(' '.join(read_sentences(path)))} "


def _spaced(text: str) -> str:
    """Words in lower case with single spaces, without punctuation."""
    return " ".join(_WORD.findall(text.casefold()))


def sentences(text: str) -> list[str]:
    """Sentences of a text, white space and line ends inside them made single spaces."""
    return [" ".join(match.group().split()) for match in _SENTENCE.finditer(text)]


def read_sentences(path: Path) -> tuple[str, ...]:
    """The sentences of a UTF-8 text file, gzip or plain.

    Raises:
        InputError: unreadable, not UTF-8, or too few sentences to hide anything in.
    """
    return _read(path, stamp(path))


@lru_cache(maxsize=4)
def _read(path: Path, _stamp: tuple[int, int]) -> tuple[str, ...]:
    parts = tuple(sentences(unpacked(path)))
    if len(parts) < FEWEST:
        raise InputError(f"{path}: {len(parts)} sentences found, a haystack needs {FEWEST} or more; give a longer text")
    return parts


def as_json(text: str) -> Any:
    """What ``text`` says in JSON.

    Raises:
        ValueError: no JSON, or text in it that no file can hold (half of a surrogate pair).
        RecursionError: too deep.
    """
    value = json.loads(text)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"\\u{ord(error.object[error.start]):04x} is half a character") from None
    return value


def unpacked(path: Path) -> str:
    """A UTF-8 file's text; gzip by its first bytes, whatever its name.

    Raises:
        InputError: unreadable, damaged or not UTF-8.
    """
    data = read_bytes(path)
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except EOFError:
            raise InputError(f"{path}: damaged gzip data (it ends too early); fetch it again") from None
        except (OSError, zlib.error) as error:
            raise InputError(f"{path}: cannot be read ({error}); fetch it again") from None
    return decoded(path, data, encoding="utf-8-sig")

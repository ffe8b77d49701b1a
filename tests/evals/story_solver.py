"""Reads a story sentence by sentence and keeps track of people and things: knows the language, not the program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

GOES = re.compile(r"([A-Z]\w+) (?:went to|walked into|moved on to) the (\w+)\.")
TAKES = re.compile(r"([A-Z]\w+) (?:took|picked up|grabbed) the (\w+)\.")
LEAVES = re.compile(r"([A-Z]\w+) (?:put down the (\w+)|laid the (\w+) aside|dropped the (\w+))\.")
GIVES = re.compile(r"([A-Z]\w+) (?:gave|handed|passed) (?:the (\w+)|(everything)) to ([A-Z]\w+)\.")


@dataclass(frozen=True)
class Solution:
    """The answer, the sentence that brought it about last, and all sentences without which it would be another."""

    answer: str | None
    deciding: str | None
    needed: tuple[str, ...]


@lru_cache(maxsize=512)
def solve(prompt: str) -> Solution:
    """What the question at the end of ``prompt`` is answered with."""
    facts, asked = story(prompt)
    answer, deciding = run(facts, asked)
    needed = [s for i, s in enumerate(facts) if run([*facts[:i], *facts[i + 1 :]], asked)[0] != answer]
    return Solution(answer, deciding, tuple(needed))


def story(prompt: str) -> tuple[list[str], str]:
    """The sentences in which somebody acts, and the question."""
    _, told, asked = re.split(r"\n\n", prompt.strip())
    sentences = [sentence.strip() for sentence in re.findall(r"[^.!?]+[.!?]", told)]
    return [s for s in sentences if any(p.fullmatch(s) for p in (GOES, TAKES, LEAVES, GIVES))], asked


def run(facts: Sequence[str], asked: str) -> tuple[str | None, str | None]:
    """The answer after ``facts``, and the last of them that changed it to what it is."""
    place: dict[str, str] = {}
    holder: dict[str, str] = {}
    answer, deciding = None, None
    for fact in facts:
        if found := GOES.fullmatch(fact):
            place[found[1]] = found[2]
        elif found := TAKES.fullmatch(fact):
            holder[found[2]] = found[1]
        elif found := LEAVES.fullmatch(fact):
            thing = found[2] or found[3] or found[4]
            if holder.get(thing) == found[1]:
                del holder[thing]
        elif found := GIVES.fullmatch(fact):
            for thing in [t for t, who in holder.items() if who == found[1] and found[2] in (t, None)]:
                holder[thing] = found[4]
        new = answered(asked, place, holder)
        if new != answer:
            answer, deciding = new, fact
    return answer, deciding


def answered(asked: str, place: dict[str, str], holder: dict[str, str]) -> str | None:
    if found := re.fullmatch(r"Who has the (\w+) at the end of the text\?", asked):
        return holder.get(found[1])
    if found := re.fullmatch(r"Where is the (\w+) at the end of the text\?", asked):
        return place.get(holder.get(found[1], ""))
    found = re.fullmatch(r"Where is ([A-Z]\w+) at the end of the text\?", asked)
    assert found, asked
    return place.get(found[1])

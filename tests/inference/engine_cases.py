"""What the engine's tests ask the demo model: questions about texts, with drafts right, wrong and half right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from demo_model.text import THINGS, make_quiz

from ggufrope.inference.engine import Engine
from ggufrope.inference.requests import Answer, Request

DEPTHS = tuple(i / 8 for i in range(9))


def quiz(engine: Engine, words: int, *, seed: int, max_new: int = 6) -> list[Request]:
    """Nine questions about one text of ``words`` words, with each kind of draft in turn."""
    rng = random.Random(seed)
    text, facts = make_quiz(rng, words, DEPTHS)
    asked = []
    for place, (name, thing) in enumerate(facts):
        right = engine.tokens(f" {thing} . so give")
        wrong = engine.tokens(f" {rng.choice(THINGS)} . so")
        draft = [right, wrong, [*right[:1], *wrong], []][(place + seed) % 4]
        prompt = engine.prompt(" ".join([*text, "so", "give", name]))
        asked.append(Request(tuple(prompt), tuple(draft), max_new))
    return asked


def one_word(text: str) -> bool:
    """What a task whose answer is one word calls settled."""
    return len(text.split()) > 1


def test_set(engine: Engine) -> list[Request]:
    """126 requests: fourteen texts of 60 to 470 words; every third answer is settled early, every fifth has a stop."""
    asked = [r for seed in range(14) for r in quiz(engine, 60 + 31 * (seed % 14), seed=seed, max_new=3 + seed % 12)]
    asked = [replace(r, settled=one_word) if i % 3 == 0 else r for i, r in enumerate(asked)]
    return [replace(r, stop=("so give", " .")) if i % 5 == 0 else r for i, r in enumerate(asked)]


test_set.__test__ = False  # type: ignore[attr-defined]


def answers(engine: Engine, requests: Sequence[Request]) -> list[Answer]:
    """In the order of the requests."""
    found = dict(engine.greedy(requests))
    return [found[index] for index in range(len(requests))]

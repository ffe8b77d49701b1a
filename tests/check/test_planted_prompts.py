"""Prompts with phrases in their middle: where what stands, and what is counted as what."""

from __future__ import annotations

import pytest

from ggufrope.check.planted_prompts import plant, text_tokens
from ggufrope.check.time_budget import LENGTHS

FRONT = [[], [1], [1, 2]]


def prompt(length, front, seed=0):
    text = list(range(1000, 1000 + text_tokens(length, len(front))))  # every token of it says where it stood
    return text, plant(text, front, length, seed)


@pytest.mark.parametrize("front", FRONT, ids=len)
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_are_exact_and_all_text_is_there(length, front):
    text, made = prompt(length, front)
    assert len(made.ids) == length
    assert list(made.ids[: len(front)]) == front
    used = set(made.plain) | set(made.unseen) | set(made.copied)
    assert len(used) == len(made.plain) + len(made.unseen) + len(made.copied)
    plain = [made.ids[i] for i in made.plain]
    assert plain == sorted(plain)  # in the text's order
    assert set(plain) <= set(text)
    assert len(plain) >= len(text) - 1 - 4 * len(made.unseen) // 4 - 4
    assert 0 not in made.plain  # nothing comes before it
    for place in made.plain:  # predicted by the text before it, not by a phrase
        assert made.ids[place - 1] == made.ids[place] - 1


@pytest.mark.parametrize("length", LENGTHS)
def test_the_end_repeats_the_phrases_of_the_middle(length):
    _, made = prompt(length, [1], seed=3)
    n = max(1, min(8, length // 32))
    assert len(made.unseen) == len(made.copied) == 4 * n

    def phrases(values):
        return sorted(made.ids[place - 4 : place + 4] for place in values[::4])

    assert phrases(made.unseen) == phrases(made.copied)
    assert length // 8 < min(made.unseen)  # the middle half, but for what was planted before
    assert max(made.unseen) < 0.8 * length
    assert max(made.copied) == length - 1
    assert min(made.copied) == length - 8 * n + 4


def test_phrases_are_the_seed_s():
    _, first = prompt(512, [1], 5)
    assert prompt(512, [1], 5)[1].ids == first.ids
    assert prompt(512, [1], 6)[1].ids != first.ids


def test_order_at_the_end_is_another_one():
    _, made = prompt(512, [1], 1)
    middle = [made.ids[place] for place in made.unseen[::4]]
    end = [made.ids[place] for place in made.copied[::4]]
    assert sorted(middle) == sorted(end)
    assert middle != end

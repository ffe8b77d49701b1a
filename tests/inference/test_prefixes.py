"""Which prompts are evaluated together, and how much of them once; rows of length tables; what ends an answer."""

from __future__ import annotations

import random

import pytest

from ggufrope.inference.prefixes import Family, common_prefix, families
from ggufrope.inference.requests import Answer, Request
from ggufrope.inference.stream import longest_answer
from ggufrope.inference.writer import Writer


def of(prompts):
    return families(prompts, [len(prompt) - 1 for prompt in prompts])


def test_questions_about_a_text_are_a_family_and_texts_are_not():
    texts = [tuple(range(n, n + 100)) for n in (0, 1000)]
    prompts = [(*texts[k % 2], 7, k) for k in range(6)]
    assert of(prompts) == [Family((0, 2, 4), 101), Family((1, 3, 5), 101)]


def test_equal_prompts_leave_their_last_token():
    assert of([(1, 2, 3)] * 3) == [Family((0, 1, 2), 2)]


def test_short_prompts_without_anything_in_common_go_side_by_side():
    [family] = of([(5, 6), (3,), (9, 9, 9)])
    assert (sorted(family.members), family.common) == ([0, 1, 2], 0)


def test_one_that_has_nobody_beside_it_keeps_what_its_neighbours_can_use():
    spine = tuple(range(500))
    prompts = [(*spine[:at], 1000, *spine[at:]) for at in (100, 200, 400)]
    # read from the deepest on: of 400 its neighbour can use 200, of 200 the last one 100
    assert of(prompts) == [Family((2, 1), 200), Family((0,), 100)]


@pytest.mark.parametrize("seed", range(20))
def test_all_are_there_once_and_share_what_is_said(seed):
    rng = random.Random(seed)
    prompts = [tuple(rng.choices((1, 2), k=rng.randint(1, 12))) for _ in range(40)]
    longest = [rng.randint(0, len(prompt) - 1) for prompt in prompts]
    found = families(prompts, longest)
    assert sorted(i for family in found for i in family.members) == list(range(40))
    for family in found:
        assert len({prompts[i][: family.common] for i in family.members}) == 1
        assert all(family.common <= longest[i] for i in family.members)


def test_common_prefix():
    assert common_prefix((1, 2, 3), (1, 2, 4, 5)) == 2
    assert common_prefix((), (1,)) == 0
    assert common_prefix((1, 2), (1, 2, 3)) == 2


def test_how_long_an_answer_may_get_before_another_row_serves_it():
    points = (512, 609, 1024)
    # at 510 tokens the third new token is never read, and the fourth would need a cache of 513
    assert longest_answer(points, 510) == 3
    assert longest_answer(points, 512) == 1
    assert longest_answer(points, 513) == 97
    assert longest_answer(points, 1000) is None
    assert longest_answer((), 5) is None


class Bytes:
    """A vocabulary of bytes, whose token 0 ends a generation."""

    def piece(self, token):
        return bytes([token])

    def ends(self, token):
        return token == 0


def write(text, **settings):
    writer = Writer(Request((1,), max_new=99, **settings), Bytes())
    for token in text if isinstance(text, bytes) else text.encode():
        if writer.add(token):
            break
    return writer.answer()


def test_what_ends_an_answer():
    assert write("abc\0def") == Answer("abc", tuple(b"abc"), "end")
    assert write("a\n\nb", stop=("\n\n",)) == Answer("a", tuple(b"a"), "stop")
    assert write("ab", stop=("",)).reason == ""
    assert write("abcd", settled=lambda text: len(text) == 3) == Answer("abc", tuple(b"abc"), "settled")
    # the earliest stop counts, however many there are
    assert write("xyz", stop=("yz", "z")) == Answer("x", tuple(b"x"), "stop")


def test_characters_in_parts_are_not_shown_until_they_are_whole():
    seen = []
    write("é雪", settled=lambda text: bool(seen.append(text)))
    assert seen == ["", "é", "é", "é", "é雪"]
    assert write("é".encode()[:1]) == Answer("", (195,), "")
    assert write(b"a\xffb") == Answer("a\ufffdb", (97, 255, 98), "")

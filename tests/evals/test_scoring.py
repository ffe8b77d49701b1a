"""Scorers against values worked out by hand from the papers' definitions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufrope.evals.tasks.scoring import (
    best_subspan,
    best_subspan_settled,
    best_words,
    best_words_settled,
    exact_prefix,
    exact_prefix_settled,
    first_named,
    first_named_settled,
    normalized,
    share_found,
    share_found_settled,
)

SHARES = [
    (" 1234567.", ["1234567"], 1.0),
    ("The number is 12 34567", ["1234567"], 0.0),
    ("91234567", ["1234567"], 1.0),  # anywhere: RULER does not ask for whole words
    ("blue whale, red fox", ["red fox", "BLUE WHALE"], 1.0),
    ("A, C", ["a", "b", "c", "d"], 0.5),
    ("", ["a"], 0.0),
    ("Straße", ["STRASSE"], 1.0),
    ("x", ["x", "x", "y", "z"], 0.5),
]


@pytest.mark.parametrize(("output", "answers", "expected"), SHARES)
def test_share_found(output: str, answers: list[str], expected: float) -> None:
    assert share_found(output, answers) == expected
    assert share_found_settled(output, answers) is (expected == 1)


PREFIXES = [
    (" 12345", 1, False),  # a sixth digit may follow
    ("12345.", 1, True),
    ("\n\n 12345 is the pass key", 1, True),
    ("123456", 0, True),
    ("12345a", 0, True),
    ("1234", 0, False),
    ("", 0, False),
    ("  \n", 0, False),
    ("1234 5", 0, True),
    ("the pass key is 12345", 0, True),
    ("**12345**", 0, True),
    ("\ufffd", 0, False),  # half a character, which may be white space
    ("12345\ufffd", 1, False),
    ("1\ufffd2345", 0, True),
]


@pytest.mark.parametrize(("output", "expected", "settled"), PREFIXES)
def test_exact_prefix(output: str, expected: int, settled: bool) -> None:
    assert exact_prefix(output, ["12345"]) == expected
    assert exact_prefix_settled(output, ["12345"]) is settled


NORMAL = [
    ("The Beatles", "beatles"),
    ("An  apple, a day!", "apple day"),
    ("U.S.A.", "usa"),
    ("théâtre the", "théâtre"),
    ("theory", "theory"),
    ("rock-and-roll", "rockandroll"),
    ("  \t\n", ""),
    ("'a' & \"the\"", ""),
]


@pytest.mark.parametrize(("text", "expected"), NORMAL)
def test_normalized(text: str, expected: str) -> None:
    assert normalized(text) == expected


SUBSPANS = [
    ("Wilhelm Conrad Röntgen", ["wilhelm conrad röntgen"], 1, False),  # a last word may grow
    ("It was Wilhelm Conrad Röntgen in 1901", ["Wilhelm Conrad Röntgen"], 1, True),
    ("May 18, 2018.\n", ["May 18 2018"], 1, True),
    ("May 18\n2018", ["May 18 2018"], 0, True),  # the first line only
    ("\nMay 18 2018", ["May 18 2018"], 0, True),
    ("the answer is The U.S. of course", ["US"], 1, True),
    ("a cat", ["the cat", "dog"], 1, False),
    ("nothing", ["the cat", "dog"], 0, False),
    ("", ["dog"], 0, False),
    ("hotdogs here", ["dog"], 1, True),  # inside a word counts, as in the authors' program
]


@pytest.mark.parametrize(("output", "answers", "expected", "settled"), SUBSPANS)
def test_best_subspan(output: str, answers: list[str], expected: int, settled: bool) -> None:
    assert best_subspan(output, answers) == expected
    assert best_subspan_settled(output, answers) is settled


WORDS = [
    ("\n\n The answer is no.\n", ["no"], 1, True),  # white space in front is no line
    ("It is not known.", ["no"], 0, False),
    ("hotdogs here", ["dog"], 0, False),
    ("a hot dog, here", ["Hot Dog"], 1, True),
    ("Hot", ["hot dog"], 0, False),
    ("first\nhot dog", ["hot dog"], 0, True),
    ("", ["dog"], 0, False),
    ("\n \n", ["dog"], 0, False),
    ("the dog", ["a dog"], 1, False),  # a last word may grow
]


@pytest.mark.parametrize(("output", "answers", "expected", "settled"), WORDS)
def test_best_words(output: str, answers: list[str], expected: int, settled: bool) -> None:
    assert best_words(output, answers) == expected
    assert best_words_settled(output, answers) is settled


NAMED = [
    (" Ann.", 1, True),
    ("Ann", 1, False),  # Anna may follow, who is another
    ("**ANN**", 1, True),
    ("Bob, Ann", 0, True),
    ("not Bobby but Ann, or Bob", 1, True),
    ("Anna's", 0, False),
    ("Ann's", 1, True),
    ("nobody", 0, False),
    ("", 0, False),
    ("Ann\ufffd", 1, False),
]


@pytest.mark.parametrize(("output", "expected", "settled"), NAMED)
def test_first_named(output: str, expected: int, settled: bool) -> None:
    assert first_named(output, ("Ann", "Bob"), ["Ann"]) == expected
    assert first_named_settled(output, ("Ann", "Bob")) is settled


def first_of_some(output: str, answers: list[str]) -> float:
    return first_named(output, ("ab", "12", "the", "t", "n", "ΑΣ"), answers)


def first_of_some_settled(output: str, answers: list[str]) -> bool:
    return first_named_settled(output, ("ab", "12", "the", "t", "n", "ΑΣ"))


PAIRS = [
    (share_found, share_found_settled),
    (exact_prefix, exact_prefix_settled),
    (best_subspan, best_subspan_settled),
    (best_words, best_words_settled),
    (first_of_some, first_of_some_settled),
]
PIECES = st.sampled_from(
    [*"aàtheσςΣİſßnx019 \n\t\u3000\ufffd.,'-", "the", " a ", "an", "ΑΣ", "12", "12 the", "ab", "\u0301", "\r\n"]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@pytest.mark.parametrize(("score", "settled"), PAIRS)
@settings(deadline=None, max_examples=500)
@given(
    output=TEXTS,
    more=TEXTS,
    answers=st.lists(st.sampled_from(["12", "ab", "the x", "ΑΣ", "ας", "t", "İ", "n"]), min_size=1),
)
def test_no_continuation_changes_a_settled_score(score, settled, output: str, more: str, answers: list[str]) -> None:
    if settled(output, answers):
        assert score(output + more, answers) == score(output, answers)
        completed = output.rstrip("\ufffd")  # the bytes at the end became characters
        assert score(completed + more, answers) == score(output, answers)

"""Filling a length and placing needles, against plain search and plain counting."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufrope.errors import UsageError
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.tasks.fitting import Sample, filled, greatest
from ggufrope.evals.tasks.placing import groups, nearest, spread

steps = st.lists(st.integers(1, 400), min_size=2, max_size=300)


@settings(deadline=None)
@given(
    sizes=steps, length=st.integers(0, 60_000), least=st.integers(0, 2), guess=st.integers(0, 500), end=st.booleans()
)
def test_greatest_is_what_trying_all_finds(sizes: list[int], length: int, least: int, guess: int, end: bool) -> None:
    most = len(sizes) if end else None

    def left(n: int) -> int:
        return length - 37 - sum(sizes[i % len(sizes)] for i in range(n))

    fitting = [n for n in range(least, (most or 60_000) + 1) if n == least or n < 700]
    expected = max((n for n in fitting if left(n) >= 0), default=None)
    if expected is None or expected < 600:
        assert greatest(left, least, most, guess, length) == expected


def test_few_looks_at_the_tokenizer() -> None:
    looks = []

    def left(n: int) -> int:
        looks.append(n)
        return 128_000 - 250 - 13 * n - n // 7

    assert greatest(left, 12, None, 12, 128_000) == (128_000 - 250) * 7 // 92
    assert len(looks) <= 6


def test_a_bent_line_is_searched_to_the_end() -> None:
    """Much text in few units, then little in many: worse than any real text."""

    def left(n: int) -> int:
        return 100_000 - (n * 9_000 if n < 10 else 90_000 + (n - 10))

    assert greatest(left, 1, None, 3, 100_000) == 10_010


def sample_of(sizes: Sequence[int], least: int = 1, most: int | None = None) -> Sample:
    """Two questions about ``n`` words; the first or the second is longer, by ``sizes[n]`` words."""

    def write(n: int) -> list[Example]:
        extra = sizes[n % len(sizes)]
        longer = (max(-extra, 0), max(extra, 0))
        return [Example(f"0/{k}", k, "w " * n + "q " * longer[k], "", ("a",), "a") for k in (0, 1)]

    return Sample(write, least, most)


def budget(length: int) -> Budget:
    return Budget(length, lambda prompt, start: len(prompt.split()))


@pytest.mark.parametrize("length", range(20, 40))
def test_every_question_fits_whichever_is_the_longest(length: int) -> None:
    examples = list(filled("t", budget(length), lambda _index: sample_of([-4, 9, -3, 0, 5, -9, 6]), 1, max_new=2))
    assert all(budget(length).left(e.prompt, e.start, 2) >= 0 for e in examples)


def test_too_little_text_is_an_error() -> None:
    with pytest.raises(UsageError, match="t: there is not enough text for 50 tokens: 29 of them would stay unused"):
        list(filled("t", budget(50), lambda _index: sample_of([1], most=18), 1, max_new=2))
    fixed = list(filled("t", budget(50), lambda _index: sample_of([1], least=18, most=18), 1, max_new=2))
    assert len(fixed[0].prompt.split()) == 18


def test_spread_by_hand() -> None:
    filler = ["aa", "bb", "cc", "dd"]
    assert spread(filler, [(0.0, "X")], " ") == "X aa bb cc dd"
    assert spread(filler, [(1.0, "X")], " ") == "aa bb cc dd X"
    assert spread(filler, [(0.5, "X")], "-") == "aa-bb-X-cc-dd"
    assert spread(filler, [(0.3, "X")], " ") == "aa X bb cc dd"
    assert spread(filler, [(1, "Z"), (0, "A"), (0.5, "M"), (0, "B")], "") == "ABaabbMccddZ"
    assert spread([], [(0.5, "M"), (0.2, "L")], " ") == "L M"


@given(
    filler=st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=40),
    depths=st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True),
)
def test_spread_comes_as_near_as_units_allow(filler: list[str], depths: list[float]) -> None:
    needles = [(depth, f"<{i}>") for i, depth in enumerate(depths)]
    text = spread(filler, needles, "")
    whole = len(text) - 3
    room_off = max(map(len, filler)) / 2 + 3 * len(depths)  # needles side by side stand in each other's way
    for depth, needle in needles:
        assert abs(text.index(needle) - depth * whole) <= room_off
    assert "".join(text.split("<")) and text.count("<") == len(depths)


def test_nearest_and_groups() -> None:
    assert [nearest(depth, 5) for depth in (0, 0.12, 0.13, 0.5, 0.9, 1)] == [0, 0, 1, 2, 4, 4]
    assert [nearest(depth, 1) for depth in (0, 0.5, 1)] == [0, 0, 0]
    assert groups([0, 0.25, 0.5, 0.75, 1], 2) == [[0, 0.75], [0.25, 1], [0.5]]
    assert groups([0, 0.5], 12) == [[0, 0.5]]
    assert groups([0, 0.5], 1) == [[0], [0.5]]

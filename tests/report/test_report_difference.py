"""Differences and their intervals against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import results_maker as made

from ggufrope.evals.result_line import from_json
from ggufrope.report.difference import difference, told_apart


def result(line):
    return from_json(line, "test")


def two(a, b, **changed):
    """Differences between two files that answered; scores are by depth, one for each text."""
    first = result(made.answers(made.facts(quantization="Q8_0"), scores=a))
    return difference(first, result(made.answers(made.facts(), scores=b, **changed)))


def test_paired_interval_is_that_of_resampled_texts():
    """24 texts, 4 differ by 1: their number in a resample is binomial (24, 1/6), 95% of which are from 1 to 8."""
    found = two({0.5: [1.0] * 24}, {0.5: [1.0] * 20 + [0.0] * 4})
    assert (found.how, found.n) == ("paired", 24)
    assert (found.value, found.low, found.high) == pytest.approx((1 / 6, 1 / 24, 8 / 24))
    assert found.shown


def test_few_texts_are_paired_by_student():
    """Six texts, one differs by 1: standard error 1/6, t(5) = 2.5706."""
    found = two({0.5: [1.0] * 6}, {0.5: [1.0] * 5 + [0.0]})
    assert (found.how, found.n) == ("paired", 6)
    assert (found.value, found.low, found.high) == pytest.approx((1 / 6, -1.5706 / 6, 3.5706 / 6), abs=1e-4)
    assert not found.shown


def test_too_few_texts_are_not_paired():
    """Five texts that differ by 1 and 2 halves: five on one side are not rare enough, whatever an interval says."""
    a = {0.0: [1.0] * 5, 1.0: [1.0] * 5}
    found = two(a, {0.0: [0.0] * 5, 1.0: [1.0] * 4 + [0.0]})
    assert (found.value, found.how) == (0.6, "independent")


def test_told_apart_by_intervals_or_by_the_same_questions():
    """8 of 20 against 12 of 20: intervals overlap (0.22-0.61, 0.39-0.78); 4 to nothing does not, text by text."""
    a, b = [1.0] * 12 + [0.0] * 8, [1.0] * 8 + [0.0] * 12
    first, second = (result(made.answers(made.facts(), scores={0.5: of})) for of in (a, b))
    assert (difference(first, second).how, told_apart(first, second)) == ("paired", True)
    other = result(made.answers(made.facts(), scores={0.5: b[:19]}))  # not the same questions
    assert (difference(first, other).how, told_apart(first, other)) == ("independent", False)
    none_right = result(made.answers(made.facts(), scores={0.5: [0.0] * 30}))
    assert told_apart(first, none_right)
    assert not told_apart(first, first)


def test_questions_about_one_text_are_resampled_together():
    """40 texts, half of them better at both depths: as 40 texts, not as 80 questions."""
    a = {0.0: [1.0] * 20 + [0.0] * 20, 1.0: [1.0] * 20 + [0.0] * 20}
    found = two(a, {0.0: [0.0] * 40, 1.0: [0.0] * 40})
    half = 1.96 * math.sqrt(0.25 / 40)  # the normal approximation for texts; for questions it would be 0.11
    assert found.value == 0.5
    assert (found.low, found.high) == (pytest.approx(0.5 - half, abs=0.03), pytest.approx(0.5 + half, abs=0.03))
    assert found.shown


def test_the_same_score_everywhere_is_said_and_shows_nothing():
    found = two({0.5: [1.0, 0.0]}, {0.5: [1.0, 0.0]})
    assert (found.how, found.value, found.shown) == ("equal", 0.0, False)


def test_texts_that_all_differ_alike_make_no_certainty():
    """Resampling would say exactly 1; the intervals of 3 of 3 and 0 of 3 say (0.438, 1) and (0, 0.562)."""
    found = two({0.5: [1.0] * 3}, {0.5: [0.0] * 3})
    assert found.how == "independent"
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - math.hypot(0.5615, 0.5615), abs=2e-4)


def test_other_questions_are_not_paired():
    """Newcombe 1998, table II (a): 56/70 and 48/80 give 0.0524 to 0.3339 by his method 10."""
    found = two({0.5: [1.0] * 56 + [0.0] * 14}, {0.5: [1.0] * 48 + [0.0] * 32})
    assert found.how == "independent"
    assert (found.value, found.low, found.high) == (
        pytest.approx(0.2),
        pytest.approx(0.0524, abs=1e-4),
        pytest.approx(0.3339, abs=1e-4),
    )


def test_names_that_repeat_are_not_paired():
    line = made.answers(made.facts(), scores={0.5: [1.0, 0.0]})
    for example in line["examples"]:
        example["name"] = "0"
    assert difference(result(line), result(line)).how == "independent"


def test_means_by_position_are_independent():
    a, b = (result(made.positions(made.facts(), means=(m,), width=0.1)) for m in (2.0, 1.5))
    found = difference(a, b)  # intervals of ± 0.05 each
    assert (found.value, found.how) == (pytest.approx(0.5), "independent")
    assert found.high - found.value == pytest.approx(0.05 * math.sqrt(2))


def test_means_of_the_same_texts_are_paired():
    """Differences .5, .4 and .6: standard error .1/√3, t(2) = 4.3027; each text's own level cancels."""
    a, b = (
        result(made.positions(made.facts(), means=(sum(m) / 3,), width=4.0, by_text=m))
        for m in ((1.5, 3.4, 5.6), (1.0, 3.0, 5.0))
    )
    found = difference(a, b)
    assert (found.how, found.n, found.value) == ("paired", 3, pytest.approx(0.5))
    assert (found.low, found.high) == pytest.approx((0.5 - 0.24842, 0.5 + 0.24842), abs=1e-4)
    assert told_apart(a, b)
    assert (difference(a, a).how, difference(a, a).shown) == ("equal", False)


def test_texts_that_differ_by_the_same_show_no_certainty():
    a, b = (result(made.positions(made.facts(), by_text=m)) for m in ((1.5, 3.5, 5.5), (1.0, 3.0, 5.0)))
    assert difference(a, b).how == "independent"


@pytest.mark.parametrize(
    "other",
    [
        {"by_text": (1.0, 3.0, 5.0), "text": "another"},
        {"by_text": (1.0, 3.0)},
        {"by_text": (1.0, 3.0, None)},
        {},
    ],
    ids=["other tokens", "fewer", "not finite", "an old line"],
)
def test_means_of_other_texts_are_not_paired(other):
    a = result(made.positions(made.facts(), by_text=(1.5, 3.4, 5.6)))
    b = result(made.positions(made.facts(), **other))
    assert difference(a, b).how == difference(b, a).how == "independent"


def test_without_an_interval_nothing_is_shown():
    a, b = (result(made.positions(made.facts(), means=(m,), low=None, high=None)) for m in (2.0, 1.5))
    found = difference(a, b)
    assert (found.value, found.low, found.shown) == (0.5, None, False)


def test_nothing_finite_gives_no_difference():
    a, b = result(made.positions(made.facts(), mean=None)), result(made.positions(made.facts()))
    assert difference(a, b) is None


def test_the_same_results_give_the_same_interval():
    a, b = {0.5: [1.0, 0.0, 1.0, 1.0]}, {0.5: [0.0, 1.0, 0.0, 1.0]}
    assert two(a, b) == two(a, b)

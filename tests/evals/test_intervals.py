"""Intervals against published values, values worked out by hand, and their own coverage."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.evals.intervals import bootstrap, mean_interval, mean_interval_kind, score_interval, student, wilson

# Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998), table I, method 3 (score
# interval without continuity correction)
PUBLISHED = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("right", "n", "low", "high"), PUBLISHED)
def test_wilson_as_published(right, n, low, high):
    found = wilson(right, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    mirror = wilson(n - right, n)
    assert (1 - mirror.high, 1 - mirror.low) == pytest.approx((found.low, found.high), abs=1e-12)


def test_wilson_by_hand():
    """10 of 20, z² = 3.84146: z/(1 + z²/20)·√(0.25/20 + z²/1600) = 1.64416 · √0.01490091 = 1.64416 · 0.122069."""
    found = wilson(10, 20)
    assert (found.low, found.high) == pytest.approx((0.29930, 0.70070), abs=1e-5)
    assert (wilson(20, 20).high, wilson(0, 5).low) == (1.0, 0.0)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_bootstrap_of_a_normal_mean():
    """400 values of variance 4: the mean's interval is ±1.96·2/√400 = ±0.196, less what 2000 resamples leave."""
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = bootstrap(values, np.ones(400), seed=5)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)
    assert found == bootstrap(values, np.ones(400), seed=5)
    assert found != bootstrap(values, np.ones(400), seed=6)


def test_bootstrap_weighs_texts_by_their_length():
    """Two texts, means 0 and 1 with 1 and 3 values: draws give 0, 3/4 and 1."""
    found = bootstrap([0, 3], [1, 3])
    assert (found.low, found.high) == (0, 1)


@pytest.mark.parametrize(("n", "held"), [(4, 0.80), (10, 0.91), (20, 0.94)])
def test_how_often_a_bootstrap_over_few_texts_holds_the_truth(n, held):
    """What docs/eval.md says of it, and why few texts get Student's t: 400 draws, ± 0.04 is two standard errors."""
    rng = np.random.default_rng(n)
    found = [bootstrap(rng.normal(size=n), np.ones(n), seed) for seed in range(400)]
    assert np.mean([f.low <= 0 <= f.high for f in found]) == pytest.approx(held, abs=0.04)


def test_student_by_hand():
    """1, 2, 3: mean 2, standard error 1/√3, t(2) = 4.3027 (R: qt(.975, 2))."""
    found = student([1, 2, 3], [1, 1, 1])
    assert (found.low, found.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert student([10, 20, 30], [10, 10, 10]) == found


def test_student_weighs_texts_by_their_length():
    """Means 0, 1 and 2 of 1, 2 and 3 values: mean 8/6; residuals 0 - 8/6, 2 - 16/6 and 6 - 24/6, over 2 values each."""
    found = student([0, 2, 6], [1, 2, 3])
    half = 4.3027 * np.sqrt(((8 / 6) ** 2 + (4 / 6) ** 2 + 2**2) / 4 / 6)
    assert (found.low, found.high) == pytest.approx((8 / 6 - half, 8 / 6 + half), abs=1e-4)


@pytest.mark.parametrize("n", [2, 4, 7, 19])
def test_student_holds_the_truth_of_few_texts(n):
    rng = np.random.default_rng(n)
    found = [student(rng.normal(size=n), np.ones(n)) for _ in range(2000)]
    assert np.mean([f.low <= 0 <= f.high for f in found]) == pytest.approx(0.95, abs=0.015)


def test_few_texts_get_student():
    values = np.arange(20.0)
    assert mean_interval(values[:19], np.ones(19)) == student(values[:19], np.ones(19))
    assert mean_interval(values, np.ones(20)) == bootstrap(values, np.ones(20))
    assert [mean_interval_kind(n) for n in (2, 19, 20)] == ["t 95%", "t 95%", "bootstrap 95%"]


def test_kinds():
    assert score_interval([[1], [0], [1]]).kind == "wilson 95%"
    assert score_interval([[0.5], [0.25], [1]]).kind == "t 95%"
    assert score_interval([[0.5], [0.25]] * 10).kind == "bootstrap 95%"
    wide = score_interval([[1, 0], [1, 1], [0, 0]])
    assert (wide.kind, wide.low, wide.high) == ("t 95%, over texts", 0.0, 1.0)
    assert score_interval([]).high == 1.0


def test_no_certainty_from_texts_that_agree():
    """20 texts with 9 right answers each: as sure as 20 right answers, not 180, and never [1, 1]."""
    found = score_interval([[1] * 9] * 20)
    assert (found.low, found.high) == pytest.approx((wilson(20, 20).low, 1.0))
    assert found.kind == "wilson 95%, over texts"
    one = score_interval([[1, 0, 1, 0]])
    assert one.low < 0.1
    assert one.high > 0.9


def test_texts_are_what_is_resampled():
    """30 texts of 9 questions, all right or all wrong: an interval over questions would be a third as wide."""
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        texts = [[float(right)] * 9 for right in rng.random(30) < 0.5]
        found = score_interval(texts, seed=trial)
        inside += found.low <= 0.5 <= found.high
    assert 0.88 <= inside / 200 <= 0.99

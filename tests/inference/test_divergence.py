"""The numeric core of ``kl`` and ``validate``: two rows of log-probabilities, and two streams of them."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from ggufrope.inference.divergence import Divergence, divergence, in_step, log_probs_at, log_softmax

NAN, INF = float("nan"), float("inf")


def log(*row):
    with np.errstate(divide="ignore"):
        return np.log(np.array(row, dtype=np.float64))


def test_log_softmax_is_normalized_whatever_the_size_of_the_logits():
    logits = np.array([[1.0, 2.0, 3.0], [1e30, 0.0, -1e30], [-1e4, -1e4, -1e4]], np.float32)
    found = log_softmax(logits)
    assert found.dtype == np.float64
    assert np.exp(found).sum(axis=1) == pytest.approx([1, 1, 1])
    assert found[0] == pytest.approx(np.log(np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()))
    assert found[2] == pytest.approx([-np.log(3)] * 3)
    assert logits[0, 0] == 1.0  # what llama.cpp holds is not written to


def test_a_row_by_hand():
    found = divergence(log(0.2, 0.7, 0.1), log(0.4, 0.35, 0.25))
    assert found.kl == pytest.approx(0.2 * np.log(0.5) + 0.7 * np.log(2) + 0.1 * np.log(0.4))
    assert found.max_abs == pytest.approx(np.log(2.5))
    assert not found.same_top
    assert divergence(log(0.5, 0.5), log(0.5, 0.5)) == Divergence(0.0, 0.0, True)


def test_a_token_that_is_impossible_for_both_adds_nothing():
    found = divergence(log(0.5, 0.5, 0.0), log(0.25, 0.75, 0.0))
    assert found.kl == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert np.isnan(found.max_abs)  # validate passes nothing that is not finite
    # impossible for the first only: p log p is 0; for the second only: infinitely far
    assert divergence(log(1.0, 0.0), log(0.5, 0.5)).kl == pytest.approx(np.log(2))
    assert divergence(log(0.5, 0.5), log(1.0, 0.0)).kl == INF


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("spoilt", [[NAN] * 3, [NAN, -1.0, -1.0], [NAN, -INF, -1.0]])
def test_numbers_that_are_none_stay_none(side, spoilt):
    rows = [log(0.2, 0.7, 0.1), log(0.2, 0.7, 0.1)]
    rows[side] = np.array(spoilt)
    found = divergence(*rows)
    assert np.isnan(found.kl)
    assert np.isnan(found.max_abs)


def test_no_block_waits_for_the_next_one():
    """Of each stream one block is held, and none while the next is computed."""

    class Tracked(np.ndarray):
        """Can be referred to weakly."""

    made: list[weakref.ref[Tracked]] = []

    def block():
        values = np.zeros((2, 4)).view(Tracked)
        made.append(weakref.ref(values))
        return values

    def stream(held):
        for _ in range(3):
            assert sum(ref() is not None for ref in made) == held
            yield block()

    assert [len(positions) for positions in in_step(stream(0), stream(1))] == [2, 2, 2]
    assert len(made) == 6


def test_one_token_of_each_row_has_the_bits_of_the_whole_row():
    logits = np.random.default_rng(3).normal(0, 20, (30, 999)).astype(np.float32)
    logits[4, :] = -np.inf
    logits[4, 7] = 2.0
    tokens = np.arange(30) * 31
    kept = logits.copy()
    assert np.array_equal(log_probs_at(logits, tokens), log_softmax(logits)[np.arange(30), tokens])
    assert np.array_equal(logits, kept)

"""The coordinate engine: its line searches, and what it finds, holds on to and leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from test_blind import TARGET, QuadraticReader, block

from ggufrope.errors import UsageError
from ggufrope.tune.blind.coordinate_searcher import CoordinateSearcher, next_value
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.spaces import SPACES

VALUES = np.linspace(-0.3, 0.3, 7)


def dip(at, noise, texts=20, seed=0):
    """Losses of ``VALUES`` with texts that differ far more than values do."""
    rng = np.random.default_rng(seed)
    return (VALUES[:, None] - at) ** 2 + 5 * rng.normal(size=texts) + noise * rng.normal(size=(7, texts))


def test_the_vertex_lies_between_values():
    value, width = next_value(VALUES, dip(0.13, 0.0), 0.1, 0.2)
    assert value == pytest.approx(0.13)
    assert width == 0.05
    assert next_value(VALUES, dip(0.04, 0.001), 0.1, 0.2)[0] == pytest.approx(0.04, abs=0.01)


def test_a_width_narrows_between_two_values_that_are_worse_and_not_beside_an_equal_one():
    beside = np.array([5.0, 4.0, 0.0, 0.0, 1.0, 2.0, 3.0])[:, None] + np.zeros(20)
    value, width = next_value(VALUES, beside, 0.1, 0.2)
    assert -0.1 < value < 0.0
    assert width == 0.1


@pytest.mark.parametrize("at", [-2.0, 2.0])
def test_beyond_the_last_value_it_goes_there_and_looks_wider(at):
    assert next_value(VALUES, dip(at, 0.0), 0.1, 0.2) == (pytest.approx(np.sign(at) * 0.3), 0.2)
    assert next_value(VALUES, dip(at, 0.0), 0.1, 0.15)[1] == 0.15


def test_what_the_texts_do_not_say_stays():
    """A dial without a dip, and one whose lowest value is where it is."""
    flat = dip(0.0, 0.0) * 0
    assert next_value(VALUES, flat, 0.1, 0.2) == (0.0, 0.1)
    uphill = VALUES[:, None] ** 2 + flat
    assert next_value(VALUES, uphill, 0.1, 0.2) == (0.0, 0.05)


def test_two_texts_say_nothing():
    assert next_value(VALUES, dip(0.2, 0.0, texts=2), 0.1, 0.2) == (0.0, 0.1)


def test_values_that_compute_nothing_are_no_candidates():
    losses = dip(0.25, 0.0)
    losses[5:] = np.nan
    value, _ = next_value(VALUES, losses, 0.1, 0.2)
    assert value == pytest.approx(0.1)
    losses = dip(0.0, 0.0)
    losses[[0, 1, 2, 4, 5, 6]] = np.inf
    assert next_value(VALUES, losses, 0.1, 0.2)[0] == 0.0


def searched(steps, keep=False, reader=None, **options):
    reader = reader or QuadraticReader(TARGET)
    searcher = CoordinateSearcher(reader, SPACES["layers"], lambda step: block(step, keep), **options)
    reports = [searcher.advance(step) for step in range(steps)]
    assert not reader.table.any(), "the reader is left with the file as it is"
    return searcher, reports


def test_it_finds_the_target_whatever_the_texts():
    searcher, reports = searched(4 * 9)
    np.testing.assert_allclose(searcher.theta, TARGET, atol=1e-3)
    assert {report.candidates for report in reports} == {7}
    assert reports[0].tokens == 7 * 6 * block(0)[0].n_read


def test_one_number_at_a_time_from_the_first_on():
    for steps in (1, 2, 3):
        searcher, _ = searched(steps)
        moved = np.flatnonzero(searcher.theta)
        assert set(moved) <= set(range(steps)) and 0 in moved


def test_a_sweep_has_its_texts_and_the_next_one_others():
    asked = []
    searcher = CoordinateSearcher(
        QuadraticReader(TARGET), SPACES["layers"], lambda n: (asked.append(n), block(n))[1], blocks=2
    )
    for step in range(5):
        searcher.advance(step)
    assert asked == [0, 1] * 4 + [2, 3]


def test_what_it_holds_on_to():
    free, _ = searched(20)
    kept, _ = searched(20, keep=True, allow=0.0)
    pulled, _ = searched(20, pull=40.0)
    assert np.abs(kept.theta).sum() < 0.3 * np.abs(free.theta).sum(), "a rise of what is to be kept costs"
    assert np.abs(pulled.theta).sum() < 0.7 * np.abs(free.theta).sum()


def test_bounds_hold():
    far = np.array([9.0, -9.0, 0.0, 9.0])
    searcher, _ = searched(40, reader=QuadraticReader(far), width=1.0)
    low, high = SPACES["layers"].bounds
    np.testing.assert_allclose(searcher.theta, [high, low, 0.0, high], atol=1e-6)


def test_killed_and_resumed_equals_not_killed():
    whole, reports = searched(9)
    half, _ = searched(5)
    again = CoordinateSearcher(QuadraticReader(TARGET), SPACES["layers"], block)
    again.restore({name: np.array(value) for name, value in half.state().items()})
    more = [again.advance(step) for step in range(5, 9)]
    assert again.state().keys() == whole.state().keys()
    for name, value in whole.state().items():  # widths too: a parabola's vertex is the same with all of them
        np.testing.assert_array_equal(again.state()[name], value)
    assert [r.objective for r in more] == [r.objective for r in reports[5:]]
    with pytest.raises(UsageError, match="of space 'layers', or of another engine, and this one is of 'pairs'"):
        CoordinateSearcher(QuadraticReader(TARGET), SPACES["pairs"], block).restore(half.state())


def test_a_model_that_computes_nothing_moves_nothing():
    reader = QuadraticReader(np.full(4, np.nan))
    searcher, reports = searched(4, reader=reader)
    assert not searcher.theta.any()
    assert set(searcher.state()["width"]) == {0.04}
    assert all(np.isnan(report.objective) for report in reports)


def test_too_many_numbers():
    from test_layout import model

    reader = QuadraticReader(TARGET)
    reader.layout = PairLayout.of(model(n_head=(4,) * 4, n_head_kv=(2,) * 4, head_dim=64, rot_dim=64))
    with pytest.raises(UsageError, match="--space full: 256 numbers, and a search without a gradient finds 64 at most"):
        CoordinateSearcher(reader, SPACES["full"], block)

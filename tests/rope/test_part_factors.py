"""A ratio for slow pairs only: against numbers worked out by hand, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.errors import ParameterError
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable, part_factors


def turning_once_in(*tokens):
    """Frequencies of these wavelengths."""
    return 2 * np.pi / np.array(tokens, dtype=np.float64)


def test_fast_pairs_keep_their_frequency_and_slow_ones_have_the_ratio():
    found = part_factors([2.0, 0.5], turning_once_in(8, 64, 128, 4096), 64.0)
    assert found == pytest.approx(np.array([[1, 1, 2, 2], [1, 1, 0.5, 0.5]]))


def test_in_between_frequencies_are_mixed_by_octaves():
    """Half an octave above 64, the frequency is the mean of 1 and 1/3 of itself: the divisor is 1.5."""
    found = part_factors([3.0], turning_once_in(64 * 2**0.5, 64 * 2**0.25), 64.0)
    assert found[0] == pytest.approx([1.5, 1 / (0.75 + 0.25 / 3)])


def model(**changed):
    facts = {
        "arch": "llama", "n_head": (4, 4), "n_head_kv": (2, 1), "head_dim": 8, "rot_dim": 8, "freq_base": 10000.0,
        "train_ctx": 64, "original_ctx": 64,
    }  # fmt: skip
    return ModelRope(**facts | changed)


def test_trained_frequencies_have_the_models_own_factors():
    own = model(own_factors=(1.0, 1.0, 2.0, 8.0))
    assert own.trained_frequencies() == pytest.approx([1.0, 0.1, 0.005, 0.000125])
    assert model().trained_frequencies() == pytest.approx([1.0, 0.1, 0.01, 0.001])


def test_of_pairs_divides_each_pair_of_each_head():
    factors = [np.array([[1, 1, 1.5, 2], [1, 1, 1, 3.0]]), np.array([[1, 2, 4, 8.0]])]
    table = RopeTable.of_pairs(model(), factors)
    for layer, head in ((0, 0), (0, 1), (1, 0)):
        divisors = model().base_frequencies() / table.frequencies(model(), layer, head)
        assert divisors == pytest.approx(factors[layer][head])
        assert table.head_rows(layer)[head] == pytest.approx(factors[layer][head])
    assert table.per_head
    assert not table.separable
    assert [table.head_rows(layer).shape for layer in (0, 1)] == [(2, 4), (1, 4)]


def test_of_heads_and_of_pairs_with_equal_pairs_rotate_alike():
    heads = RopeTable.of_heads(model(), ((1.5, 1.2), (1.0,)))
    pairs = RopeTable.of_pairs(model(), [np.repeat([[1.5], [1.2]], 4, axis=1), np.ones((1, 4))])
    assert heads.close_to(pairs, rtol=0)
    assert pairs.close_to(heads, rtol=0)
    assert [heads.head_rows(layer).shape for layer in (0, 1)] == [(2, 1), (1, 1)]


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ([np.ones((2, 4))], r"shapes \(2, 4\); the model has \(2, 4\), \(1, 4\)"),
        ([np.ones((2, 3)), np.ones((1, 3))], r"\(2, 3\), \(1, 3\)"),
        ([np.ones((2, 4)), np.ones((2, 4))], r"\(2, 4\), \(2, 4\)"),
        ([np.ones((2, 4)), np.array([[1, 1, 1, np.nan]])], "layer 1: found nan"),
        ([np.zeros((2, 4)), np.ones((1, 4))], "layer 0: found 0"),
    ],
)
def test_factors_that_do_not_fit(factors, said):
    with pytest.raises(ParameterError, match=said):
        RopeTable.of_pairs(model(), factors)


def test_windows_of_other_dimensions_take_no_factors():
    windows = model(arch="gemma4", sliding=(True, False), sliding_rot_dim=4)
    table = RopeTable.of_pairs(windows, [np.ones((2, 2)), np.full((1, 4), 2.0)])
    assert table.frequencies(windows, 0, 0).shape == (2,)
    assert table.frequencies(windows, 1, 0) == pytest.approx(windows.base_frequencies() / 2)
    with pytest.raises(ParameterError, match="layer 0 has a sliding window and rotates 4 dimensions, not 8"):
        RopeTable.of_pairs(windows, [np.full((2, 2), 1.5), np.ones((1, 4))])

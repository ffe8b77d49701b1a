"""From scores to ratios: against the reference, which shares no code, and by hand."""

from __future__ import annotations

import dataclasses

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.calibrate.ordering import Ordering, group_scores, rank_correlation
from ggufrope.calibrate.prompts import cut, default_lengths
from ggufrope.errors import InputError, ParameterError, UnsupportedModelError, UsageError
from ggufrope.methods.ms_poe import MsPoe
from ggufrope.modelfile.model_file import ModelFile


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(gb.tiny_llama())
    return dataclasses.replace(ModelFile.open(path).original.model, n_head=(8,) * 5, n_head_kv=(8,) * 5)


@pytest.mark.parametrize("order", ["code", "rank"])
@pytest.mark.parametrize("spacing", ["code", "paper"])
def test_the_reference_gives_the_same_ratios(model, order, spacing):
    torch = pytest.importorskip("torch")
    from ggufrope.reference.head_scores import ratios_of_heads

    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = [rng.integers(0, 5, 8) / 50 for _ in range(5)]  # few values, so that some are equal
        found = Ordering(order, spacing, 1.1, 1.9).ratios(model, scores)
        assert found[:2] == ((1.0,) * 8,) * 2
        for layer in (2, 3, 4):
            expected = ratios_of_heads(torch.from_numpy(scores[layer]), 1.1, 1.9, order, spacing)
            assert found[layer] == pytest.approx(expected.tolist())


def test_the_two_orders_by_hand(model):
    scores = [np.array([3.0, 9, 9, 1, 0, 0, 0, 0])] * 5  # best first: 1, 2, 0, 3, 4, ...
    at = Ordering("code", min_ratio=1, max_ratio=9).ratios(model, scores)[2]
    assert at == (2, 3, 1, 4, 5, 6, 7, 8)
    assert Ordering("rank", min_ratio=1, max_ratio=9).ratios(model, scores)[2] == (3, 1, 2, 4, 5, 6, 7, 8)


@pytest.mark.parametrize("order", ["sequential", "reverse", "random:3"])
def test_baselines_are_the_method_s_own(model, order):
    assert Ordering(order).ratios(model, []) == MsPoe(head_order=order).ratios(model)


def test_layers_without_scores_are_refused_where_they_matter(model):
    scores = [np.full(8, np.nan), *[np.arange(8.0)] * 4]
    assert Ordering("code").ratios(model, scores)[0] == (1.0,) * 8
    with pytest.raises(UnsupportedModelError, match="layer 3 could not be scored"):
        Ordering("code").ratios(model, [*scores[:3], np.full(8, np.nan), scores[4]])
    with pytest.raises(UnsupportedModelError, match="no layer of 5"):
        Ordering("code", first_layer=5).ratios(model, scores)


@pytest.mark.parametrize("wrong", [{"order": "best"}, {"spacing": "x"}, {"group": "x"}, {"min_ratio": 2.0}])
def test_wrong_words_are_refused(wrong):
    with pytest.raises(ParameterError):
        Ordering(**wrong)


def test_groups():
    scores = np.array([[1.0, 3, 5, 5], [2, 2, 0, 8]])
    assert group_scores(scores, 2, "mean").tolist() == [[2, 5], [2, 4]]
    assert group_scores(scores, 2, "max").tolist() == [[3, 5], [2, 8]]


def test_rank_correlation():
    assert rank_correlation([1, 2, 3, 10], [5, 6, 7, 8]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 10], [9, 6, 3, 2]) == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    # by hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    assert rank_correlation([1, 2, 2, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_cuts_cover_the_texts():
    cuts = cut([range(100), range(500)], ["a", "b"], [20, 60], 4, front=1)
    assert [(c.text, c.start, c.length) for c in cuts] == [
        (0, 0, 20), (1, 0, 20), (0, 81, 20), (1, 481, 20), (0, 0, 60), (1, 0, 60), (0, 41, 60), (1, 441, 60),
    ]  # fmt: skip
    assert default_lengths(512) == (128, 256, 512)
    assert default_lengths(131072) == (1024, 2048, 4096)
    assert default_lengths(20) == (16, 20)
    with pytest.raises(InputError, match=r"a: 100 tokens are less than one prompt of 128"):
        cut([range(100)], ["a"], [128], 1, front=1)
    for lengths, n in (([], 1), ([20], 0), ([4], 1)):
        with pytest.raises(UsageError, match="at least 1"):
            cut([range(100)], ["a"], lengths, n, front=1)


@pytest.mark.parametrize("order", ["code", "rank", "random:3"])
def test_layers_that_use_another_layers_k_follow_it(model, order):
    """As in Gemma 3n and 4: such layers need no scores, and other ratios than their owner's would be refused."""
    shared = dataclasses.replace(model, leaders=(0, 1, 2, 2, 1))
    rng = np.random.default_rng(0)
    scores = [rng.random(8), rng.random(8), rng.random(8), rng.random(8), np.full(8, np.nan)]
    found = Ordering(order).ratios(shared, scores)
    assert found[2] == Ordering(order).ratios(model, scores[:4] + scores[:1])[2]
    assert found[3] == found[2]
    assert found[4] == found[1] == (1.0,) * 8  # the owner comes before the first layer that takes ratios
    assert MsPoe(head_ratios=found).ratios(shared) == found
    with pytest.raises(UnsupportedModelError, match="no layer of 5"):
        Ordering(order, first_layer=3).ratios(shared, scores)

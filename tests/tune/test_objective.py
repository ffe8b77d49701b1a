"""What tables are judged by: sums over answers, the worst depth, and the same in numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.tune.objective import answer_loss, excess, mean_and_worst, objective

CERTAIN, LOST = np.log([0.99] * 30), np.log([0.1, 0.1, 0.2, *[0.99] * 27])


def test_tokens_that_are_given_away_do_not_dilute_an_answer() -> None:
    few, many = np.log([0.1, 0.1]), np.log([0.1, 0.1, *[0.999] * 30])
    assert answer_loss(many) == pytest.approx(answer_loss(few), rel=0.02)  # a mean would be a sixteenth


def test_equal_losses_are_themselves() -> None:
    assert mean_and_worst(np.full(5, 3.5)) == pytest.approx(3.5)


def test_a_lost_depth_outweighs_what_others_gain() -> None:
    even, uneven = np.full(5, 4.0), np.array([2.0, 2.0, 2.0, 2.0, 8.0])  # the mean says better: 3.2
    assert mean_and_worst(uneven) > mean_and_worst(even)


def test_the_worst_depth_is_that_of_all_texts() -> None:
    """Texts that are each bad somewhere else are no bad depth."""
    here, there = [LOST, CERTAIN], [CERTAIN, LOST]
    assert objective([here, there]) < objective([here, here])
    assert objective([here, here]) == pytest.approx(objective([here]))


def test_texts_with_other_numbers_of_questions_are_judged_one_by_one() -> None:
    mixed = objective([[LOST, CERTAIN], [CERTAIN]])
    assert mixed == pytest.approx((objective([[LOST, CERTAIN]]) + objective([[CERTAIN]])) / 2)


@pytest.mark.parametrize("texts", [[], [[]], [[CERTAIN], []]])
def test_nothing_is_no_objective(texts: list[list[np.ndarray]]) -> None:
    with pytest.raises(ValueError, match="no questions"):
        objective(texts)


def test_torch_gives_the_same_and_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    texts = [[-rng.exponential(1.0, size=4) for _ in range(5)] for _ in range(3)]
    tensors = [[torch.tensor(one, requires_grad=True) for one in text] for text in texts]
    value = objective(tensors, torch)
    assert float(value.detach()) == pytest.approx(objective(texts), rel=1e-12)
    value.backward()
    step = 1e-6
    for text, question in ((0, 0), (2, 4)):
        moved = [[one.copy() for one in each] for each in texts]
        moved[text][question][1] += step
        expected = (objective(moved) - objective(texts)) / step
        assert float(tensors[text][question].grad[1]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("loss", "expected"), [(3.0, 0.0), (3.03, 0.0), (3.06, 0.03), (2.0, 0.0)])
def test_only_what_is_above_the_allowance_counts(loss: float, expected: float) -> None:
    assert excess(loss, 3.0, 0.01) == pytest.approx(expected)

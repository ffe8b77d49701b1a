"""The verdict on prompts read before and after: worse, slightly worse, perhaps, nothing shown, better; no numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ggufrope.check.harm import COPYING_NATS, LOSS_SHARE, Finding, PairedChange, copying_change, loss_change

BEFORE = [3.0, 2.8, 3.3, 2.9, 3.1, 3.0]
NOISE = [0.01, -0.01, 0.02, -0.02, 0.005, -0.005]


def after(shift: float, noise: float = 1.0) -> list[float]:
    return [b + shift + noise * n for b, n in zip(BEFORE, NOISE, strict=True)]


@pytest.mark.parametrize(
    ("shift", "noise", "finding"),
    [
        (0.10, 1, Finding.WORSE),  # 3%, far beyond the noise
        (0.031, 1, Finding.WORSE),  # just above 1% of 3.0167
        (0.029, 1, Finding.SLIGHT),  # just below
        (0.02, 1, Finding.SLIGHT),
        (0.005, 1, Finding.NO_HARM),
        (0.0, 1, Finding.NO_HARM),
        (0.0, 0, Finding.NO_HARM),  # the same numbers
        (0.10, 20, Finding.UNCLEAR),  # 3%, and so do prompts differ
        (0.02, 20, Finding.NO_HARM),
        (-0.02, 1, Finding.NO_HARM),  # better by less than matters
        (-0.10, 1, Finding.BETTER),
        (-0.10, 20, Finding.NO_HARM),
    ],
)
def test_losses(shift: float, noise: float, finding: Finding) -> None:
    assert loss_change(BEFORE, after(shift, noise)).finding is finding


@pytest.mark.parametrize(
    ("shift", "noise", "finding"),
    [
        (-1.7, 1, Finding.WORSE),
        (-0.31, 1, Finding.WORSE),
        (-0.29, 1, Finding.SLIGHT),
        (-0.12, 10, Finding.NO_HARM),
        (-0.5, 50, Finding.UNCLEAR),
        (0.0, 0, Finding.NO_HARM),
        (0.29, 1, Finding.NO_HARM),
        (0.5, 1, Finding.BETTER),
    ],
)
def test_copying(shift: float, noise: float, finding: Finding) -> None:
    down = [-b for b in BEFORE]
    assert copying_change(down, [b + shift + noise * n for b, n in zip(down, NOISE, strict=True)]).finding is finding


def test_less_is_better_for_one_and_more_for_the_other() -> None:
    up = after(0.5)
    assert loss_change(BEFORE, up).finding is Finding.WORSE
    assert copying_change(BEFORE, up).finding is Finding.BETTER


def test_prompts_are_compared_in_pairs() -> None:
    """Prompts differ by nats, their changes hardly: unpaired, nothing could be seen."""
    before = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    changed = loss_change(before, [b + 0.1 + n for b, n in zip(before, NOISE, strict=True)])
    assert changed.finding is Finding.WORSE
    mixed = loss_change(before, [b + 0.1 for b in reversed(before)])
    assert mixed.finding is Finding.UNCLEAR


@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (4, 3.1824), (6, 2.5706), (8, 2.3646), (12, 2.2010)])
def test_the_interval_is_student_s(n: int, t: float) -> None:
    rng = np.random.default_rng(n)
    before = rng.normal(3, 1, n)
    later = before + rng.normal(0.05, 0.1, n)
    found = loss_change(before.tolist(), later.tolist())
    half = t * (later - before).std(ddof=1) / math.sqrt(n)
    middle = (later - before).mean()
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-4)
    assert (found.before, found.after) == pytest.approx((before.mean(), later.mean()))
    assert found.difference == pytest.approx(later.mean() - before.mean())


def test_one_prompt_has_no_interval_and_proves_nothing() -> None:
    found = loss_change([3.0], [9.0])
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.finding is Finding.UNCLEAR
    assert loss_change([3.0], [3.0]).finding is Finding.NO_HARM


def test_two_prompts_need_a_gap_that_is_alike() -> None:
    assert loss_change([3.0, 3.1], [3.2, 3.6]).finding is Finding.UNCLEAR  # t with one degree of freedom is 12.7
    assert loss_change([3.0, 3.1], [3.5, 3.61]).finding is Finding.WORSE


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_gone_are_worse(odd: float) -> None:
    for change in (loss_change, copying_change):
        found = change(BEFORE, [*BEFORE[:-1], odd])
        assert found.finding is Finding.WORSE
        assert math.isnan(found.after)
        assert math.isnan(found.low)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_numbers_that_were_never_there_cannot_be_compared(odd: float) -> None:
    for change in (loss_change, copying_change):
        with pytest.raises(ValueError, match="the mean before"):
            change([*BEFORE[:-1], odd], BEFORE)
        with pytest.raises(ValueError, match="the mean before"):
            change([*BEFORE[:-1], odd], [*BEFORE[:-1], odd])


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="no prompts"):
        loss_change([], [])
    with pytest.raises(ValueError, match="6 prompts before and 5 after"):
        loss_change(BEFORE, BEFORE[:5])


def test_a_loss_of_nothing_has_a_limit_too() -> None:
    assert loss_change([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]).finding is Finding.NO_HARM
    assert loss_change([0.0, 0.0, 0.0], [0.1, 0.1, 0.1]).finding is Finding.WORSE


def test_limits_are_what_the_docs_say() -> None:
    assert (LOSS_SHARE, COPYING_NATS) == (0.01, 0.3)
    assert PairedChange(1.0, 3.0, 0.0, 0.0, Finding.WORSE).difference == 2.0

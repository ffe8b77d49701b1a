"""How many prompts fit, and how fast a model reads."""

from __future__ import annotations

import pytest

from ggufrope.check import time_budget
from ggufrope.check.time_budget import LENGTHS, affordable, reading_speed


@pytest.mark.parametrize(
    ("tokens", "longest", "length"),
    [
        (1e9, 1024, 1024),
        (6144, 1024, 1024),
        (6143, 1024, 512),
        (1e9, 512, 512),
        (1e9, 64, 64),
        (1e9, 63, None),
        (1535, 1024, 128),
        (384, 1024, 64),
        (256, 1024, 64),
        (255, 1024, None),
        (-10, 1024, None),
    ],
)
def test_lengths(tokens, longest, length):
    assert affordable(tokens, longest) == length


@pytest.mark.parametrize("longest", LENGTHS)
def test_six_prompts_fit_or_four_of_the_shortest(longest):
    for tokens in range(0, 20_000, 37):
        length = affordable(tokens, longest)
        if length is None:
            assert tokens < 4 * 64
        else:
            assert length <= longest
            assert (6 if length > 64 else 4) * length <= tokens
            longer = [n for n in LENGTHS if length < n <= longest]
            assert all(6 * n > tokens for n in longer)


class Clock:
    """Time that passes when tokens are read."""

    def __init__(self, monkeypatch, speeds):
        self.now, self.speeds, self.read_lengths = 0.0, iter(speeds), []
        monkeypatch.setattr(time_budget.time, "monotonic", lambda: self.now)

    def read(self, ids):
        self.read_lengths.append(len(ids))
        self.now += len(ids) / next(self.speeds)


def test_weights_that_come_from_a_disk_do_not_count(monkeypatch):
    clock = Clock(monkeypatch, [1, 400, 500])
    assert reading_speed(clock.read, range(1024)) == pytest.approx(500)
    assert clock.read_lengths == [16, 64, 256]


def test_a_slow_model_is_not_read_for_long(monkeypatch):
    clock = Clock(monkeypatch, [10, 10])
    assert reading_speed(clock.read, range(1024)) == pytest.approx(10)
    assert clock.read_lengths == [16, 64]


def test_few_tokens_are_counted_as_they_are(monkeypatch):
    clock = Clock(monkeypatch, [100, 100, 100])
    assert reading_speed(clock.read, range(70)) == pytest.approx(100)
    assert clock.read_lengths == [16, 64, 70]

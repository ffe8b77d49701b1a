"""The blind engine: its evolution, its races, and a search that finds what was planted."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from demo_model.text import make_quiz
from test_layout import model

from ggufrope.errors import UsageError
from ggufrope.tune.blind.racing import race
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.runtime_reader import AnswerReading, RuntimeReader
from ggufrope.tune.spaces import SPACES
from ggufrope.tune.tuning_texts import TuningQuestion, TuningText, as_text

pytest.importorskip("cmaes", reason="pip install 'ggufrope[tune]'")
from ggufrope.tune.blind.blind_searcher import BlindSearcher
from ggufrope.tune.blind.evolution import Evolution

WIDE = np.tile([-3.0, 3.0], (4, 1))


def evolved(evolution, loss, generations):
    for _ in range(generations):
        losses = [loss(candidate) for candidate in evolution.ask()]
        evolution.tell(sorted(range(len(losses)), key=losses.__getitem__))
    return evolution


def test_evolution_finds_a_minimum_from_ranks_alone():
    target = np.array([0.5, -1.0, 0.0, 2.0])
    found = evolved(Evolution(np.zeros(4), WIDE, sigma=0.3, seed=1), lambda x: ((x - target) ** 2).sum() ** 3, 60).mean
    np.testing.assert_allclose(found, target, atol=0.02)


def test_one_number_alone():
    evolution = Evolution(np.zeros(1), WIDE[:1], sigma=0.3, seed=1)
    assert {candidate.shape for candidate in evolution.ask()} == {(1,)}
    np.testing.assert_allclose(evolved(evolution, lambda x: abs(x[0] - 1.2), 40).mean, [1.2], atol=0.02)


def test_bounds_hold():
    limits = np.tile([-0.1, 0.2], (4, 1))
    evolution = Evolution(np.zeros(4), limits, sigma=0.5, seed=1)
    for _ in range(40):
        candidates = evolution.ask()
        assert all((limits[:, 0] <= c).all() and (c <= limits[:, 1]).all() for c in candidates)
        evolution.tell(sorted(range(len(candidates)), key=lambda i: -candidates[i].sum()))
    assert (evolution.mean <= 0.2).all()
    np.testing.assert_allclose(evolution.mean, 0.2, atol=0.05)


def test_a_restored_evolution_goes_on_to_the_bit():
    def loss(x):
        return ((x - 1) ** 2).sum()

    whole = evolved(Evolution(np.zeros(4), WIDE, sigma=0.3, seed=5), loss, 12)
    half = evolved(Evolution(np.zeros(4), WIDE, sigma=0.3, seed=5), loss, 5)
    half.ask()  # killed in the middle of a generation
    again = Evolution(np.zeros(4), WIDE, sigma=0.3, seed=5)
    again.restore({name: np.array(value) for name, value in half.state().items()})
    np.testing.assert_array_equal(evolved(again, loss, 7).mean, whole.mean)
    other = evolved(Evolution(np.zeros(4), WIDE, sigma=0.3, seed=6), loss, 12)
    assert not np.array_equal(other.mean, whole.mean)
    with pytest.raises(UsageError, match="another space or version"):
        Evolution(np.zeros(3), WIDE[:3], sigma=0.3, seed=5).restore(half.state())


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(UsageError, match=r"needs the package cmaes: pip install 'ggufrope\[tune\]'"):
        Evolution(np.zeros(4), WIDE, sigma=0.3, seed=1)


def test_clear_losers_read_no_more():
    """Candidate 0 is worse on every text, 1 is better, 2 is neither, 3 computes no numbers."""
    rng = np.random.default_rng(0)
    level, noise = rng.normal(0, 5, 12), rng.normal(0, 0.3, (4, 12))
    reads = []

    def read(candidate, text):
        reads.append(candidate)
        if candidate is None:
            return level[text]
        worse = [2.0, -1.0, 0.0, np.nan][candidate]
        return level[text] + worse + noise[candidate, text]

    found = race(4, 12, read)
    assert (reads.count(None), reads.count(0), reads.count(1), reads.count(3)) == (12, 3, 12, 1)
    assert reads.count(2) > 3
    assert found.order[0] == 1
    assert found.order[-1] == 3
    assert found.dropped == 2 + (reads.count(2) < 12)
    # unpaired, nobody could be told apart: the texts differ by far more than the candidates
    assert np.std(level) > 3


def test_a_candidate_that_is_no_worse_stays():
    """The interval is a 95% one: of 300 equal candidates few are dropped on three texts."""
    rng = np.random.default_rng(1)
    kept = sum(not race(1, 3, lambda c, _t: rng.normal() if c == 0 else 0.0).dropped for _ in range(300))
    lost = sum(len(found) == 4 for _ in range(300) if (found := _reads(rng.normal)))
    assert kept == 300, "all three texts are read before anybody is dropped"
    assert lost < 300 * 0.06


def _reads(draw):
    """The texts that an equal candidate read of six, and None for each."""
    seen = []
    race(1, 4, lambda c, t: 0.0 if c is None else (seen.append(t), draw())[1])
    return range(4) if len(seen) == 3 else range(0)


class QuadraticReader:
    """Stands for a model whose right answers are likelier the nearer log factors are to a target, text by text."""

    def __init__(self, target):
        self.layout = PairLayout.of(model(n_head=(4,) * 4, n_head_kv=(2,) * 4))
        self.file, self.tokens, self.target, self.table = SimpleNamespace(), 0, target, None

    def set(self, table):
        self.table = np.array(table)

    def read(self, texts):
        found = []
        for text in texts:
            self.tokens += text.n_read
            level = random.Random(text.name).gauss(-30, 10)  # texts differ more than candidates do
            layers = np.array([part.mean() for part in self.layout.split(self.table)])
            value = level - 8 * ((layers - self.target) ** 2).sum()
            if text.name.startswith("keep/"):
                value = level / 10 - 9 * 2.0 * np.abs(layers).sum()
            found.append(
                [AnswerReading(np.full(len(q.answer), value / len(q.answer)), np.zeros(1)) for q in text.questions]
            )
        return found


def block(step, keep=False):
    text = TuningText(f"t/{step}", (1, 2, 3), (TuningQuestion("q", 0.5, (4,), (5, 6)),))
    return [text, as_text(f"keep/{step}", range(10))] if keep else [text]


TARGET = np.array([0.3, -0.2, 0.0, 0.5])


def searched(generations, keep=False, **options):
    reader = QuadraticReader(TARGET)
    searcher = BlindSearcher(reader, SPACES["layers"], lambda step: block(step, keep), seed=3, **options)
    reports = [searcher.advance(step) for step in range(generations)]
    assert not reader.table.any(), "the reader is left with the file as it is"
    return searcher, reports


def test_a_search_finds_the_target_whatever_the_texts():
    searcher, reports = searched(40, pull=0.0)
    np.testing.assert_allclose(searcher.theta, TARGET, atol=0.03)
    assert reports[0].candidates == 8
    raced = sum(report.tokens for report in reports)
    whole = sum((report.candidates + 1) * 6 * block(0)[0].n_read for report in reports)
    assert raced < 0.9 * whole, "clear losers were dropped"


def test_what_it_holds_on_to():
    free, _ = searched(25, pull=0.0)
    pulled, _ = searched(25, pull=20.0)
    kept, _ = searched(25, keep=True, pull=0.0, allow=0.0)
    assert np.abs(pulled.theta).sum() < 0.7 * np.abs(free.theta).sum()
    assert np.abs(kept.theta).sum() < 0.3 * np.abs(free.theta).sum(), "a rise of what is to be kept costs"


def test_killed_and_resumed_equals_not_killed():
    whole, reports = searched(6)
    half, _ = searched(3)
    again = BlindSearcher(QuadraticReader(TARGET), SPACES["layers"], block, seed=3)
    again.restore(half.state())
    more = [again.advance(step) for step in range(3, 6)]
    np.testing.assert_array_equal(again.theta, whole.theta)
    assert [r.objective for r in more] == [r.objective for r in reports[3:]]
    with pytest.raises(UsageError, match="of space 'layers', this one is of 'pairs'"):
        BlindSearcher(QuadraticReader(TARGET), SPACES["pairs"], block).restore(half.state())


def test_too_many_numbers():
    reader = QuadraticReader(TARGET)
    reader.layout = PairLayout.of(model(n_head=(4,) * 4, n_head_kv=(2,) * 4, head_dim=64, rot_dim=64))
    with pytest.raises(UsageError, match="--space full: 256 numbers, and a search without a gradient finds 64 at most"):
        BlindSearcher(reader, SPACES["full"], block)


def test_planted_layers_are_turned_back(demo_file):
    """The demo model in a file whose layers turn too slowly by known factors. Layer 2 alone decides what it answers
    (a factor of 1.6 there costs 8 nats, in any other layer nothing): there the factor must come back.
    """
    planted = [1.35, 1.0, 1.5, 1.0, 1.25, 1.0]
    path = demo_file("ms-poe", head_ratios=[[ratio] * 4 for ratio in planted], from_wavelength=0.0)
    with RuntimeReader(path, n_ctx=256, threads=1) as reader:

        def texts(step):
            text, facts = make_quiz(random.Random(step), 150, (0.1, 0.4, 0.7, 0.95))
            prefix = tuple(reader.engine.prompt(" ".join([*text, "so", "give"])))
            asked = (
                TuningQuestion(name, None, tuple(reader.engine.tokens(name)), tuple(reader.engine.tokens(thing)))
                for name, thing in facts
            )
            return [TuningText(f"quiz/{step}", prefix, tuple(asked))]

        searcher = BlindSearcher(reader, SPACES["layers"], texts, seed=0, blocks=4, pull=0.0)
        reports = [searcher.advance(step) for step in range(3)]
    assert reports[0].objective > 3
    assert all(report.objective < 0.05 for report in reports[1:])
    assert searcher.theta[2] == pytest.approx(-np.log(1.5), abs=0.2)

"""The search in a space: what is kept, what is refused, when it ends; a killed one goes on as if it was not."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import numpy as np
import pytest

from ggufrope.errors import InputError, OutputError
from ggufrope.tune.constraint import LossRise, rises, within
from ggufrope.tune.run_journal import RunJournal
from ggufrope.tune.searcher import StepReport
from ggufrope.tune.space_search import SearchLimits, search_space


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch):
    """A state is saved after every step; what a crash of the machine would lose is not tested."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


GOAL = np.array([0.5, -0.25, 1.0])


@dataclass
class Reading:
    objective: float
    rises: tuple[LossRise, ...]


class Walker:
    """Walks towards ``GOAL`` and beyond, in steps with noise of its own generator."""

    engine = "gradient"

    def __init__(self, seed=0, fails_at=None, rate=0.2):
        self._theta, self._rng, self._fails_at, self._rate = np.zeros(3), np.random.default_rng(seed), fails_at, rate
        self.taken = []

    @property
    def theta(self):
        return self._theta.copy()

    def advance(self, step):
        if step == self._fails_at:
            raise KeyboardInterrupt
        self.taken.append(step)
        found = float(((self._theta - GOAL) ** 2).sum())
        self._theta += self._rate * (GOAL - self._theta) + 0.01 * self._rng.normal(size=3)
        return StepReport(step, found, 0.0, 10)

    def state(self):
        kept = json.dumps(self._rng.bit_generator.state).encode()
        return {"theta": self._theta.copy(), "rng": np.frombuffer(kept, np.uint8)}

    def restore(self, state):
        self._theta = state["theta"].copy()
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())


def quadratic(costs=0.0):
    """The selection split: better near ``GOAL``; the loss rises by ``costs`` times the distance from 0."""

    def read(theta):
        loss = 3.0 * (1 + costs * float(np.abs(theta).max()))
        return Reading(float(((theta - GOAL) ** 2).sum()), rises({64: [3.0]}, {64: [loss]}))

    return read


def limits(**changed):
    return SearchLimits(**{"steps": 40, "seconds": None, "every": 5, "patience": 3, "allow": 0.01, **changed})


def run(folder, searcher=None, read=None, **changed):
    with RunJournal(folder, {"seed": 0}) as journal:
        return search_space(
            "full", lambda: searcher or Walker(), read or quadratic(), np.zeros(3), limits(**changed), journal
        )


def comparable(state):
    told = state.record()
    told.pop("seconds")
    return json.dumps(told), state.best.tolist(), {k: v.tolist() for k, v in state.searcher.items()}


def test_it_finds_what_is_better_and_keeps_the_best(tmp_path):
    state = run(tmp_path / "run")
    assert np.abs(state.best - GOAL).max() < 0.1
    assert state.best_point.objective == min(p.objective for p in state.points)
    assert state.points[0].objective == pytest.approx(float((GOAL**2).sum()))
    assert len(state.steps) <= 40 and state.done


@pytest.mark.parametrize("killed_at", [0, 1, 4, 5, 7, 19])
def test_killed_and_resumed_equals_not_killed(tmp_path, killed_at):
    whole = run(tmp_path / "whole", steps=20)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", Walker(fails_at=killed_at), steps=20)
    second = Walker(seed=99)  # what it would do without the state differs
    if killed_at == 0:
        second = Walker()
    assert comparable(run(tmp_path / "run", second, steps=20)) == comparable(whole)
    assert second.taken == list(range(killed_at, 20))


def test_two_runs_with_one_seed_agree_and_others_do_not(tmp_path):
    one, two, other = (run(tmp_path / str(i), Walker(seed)) for i, seed in enumerate((3, 3, 4)))
    assert comparable(one) == comparable(two) != comparable(other)


def test_a_finished_search_is_not_run_again(tmp_path):
    first = run(tmp_path / "run")
    again = Walker()
    assert comparable(run(tmp_path / "run", again)) == comparable(first)
    assert again.taken == []


def test_what_costs_too_much_is_not_kept(tmp_path):
    state = run(tmp_path / "run", read=quadratic(costs=0.02))  # 1% is reached at a distance of 0.5
    assert 0 < np.abs(state.best).max() <= 0.5 + 1e-9
    assert all(not p.best for p in state.points if p.rise > 0.01)
    assert any(p.scale < 1 and p.best for p in state.points)  # a part of a candidate was taken


def test_where_everything_costs_too_much_the_file_stays_as_it_is(tmp_path):
    state = run(tmp_path / "run", read=quadratic(costs=10.0))
    assert not state.best.any()
    assert "no better candidate in 3 readings" in state.done


def test_the_search_ends_when_nothing_gets_better(tmp_path):
    def read(theta):
        return Reading(1.0 + float(np.abs(theta).max()), rises({64: [3.0]}, {64: [3.0]}))

    state = run(tmp_path / "run", read=read)
    assert len(state.steps) == 15 and not state.best.any()


def test_a_candidate_that_computes_no_numbers_ends_it_and_the_best_stays(tmp_path):
    class Breaks(Walker):
        def advance(self, step):
            report = super().advance(step)
            return report if step < 12 else StepReport(step, float("nan"), 0.0, 10)

    state = run(tmp_path / "run", Breaks())
    assert "NaN" in state.done and len(state.steps) == 13
    assert np.abs(state.best).max() > 0.3 and state.points[-1].step == 10


def test_a_candidate_with_a_loss_of_nan_is_not_kept(tmp_path):
    def read(theta):
        after = float("nan") if theta.any() else 3.0
        return Reading(-float(np.abs(theta).max()), rises({64: [3.0]}, {64: [after]}))

    assert not run(tmp_path / "run", read=read).best.any()


def test_time_counts_over_all_starts(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", Walker(fails_at=2), seconds=1e9)
    state = run(tmp_path / "run", Walker(), seconds=1e-12)
    assert state.done == "the time is up" and len(state.steps) == 3


def test_another_request_is_refused_and_replaced_on_demand(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(OutputError, match="seed 0, now 1"):
        RunJournal(tmp_path / "run", {"seed": 1})
    with RunJournal(tmp_path / "run", {"seed": 1}, overwrite=True) as journal:
        assert not journal.resumed and journal.load("full") is None
    with RunJournal(tmp_path / "run", {"seed": 1}) as journal:
        assert journal.resumed


def test_a_request_that_was_refused_is_in_nobodys_way(tmp_path):
    with RunJournal(tmp_path / "run", {"seed": 0}) as journal:
        journal.put("forms.json", {"niah": " "})
    with RunJournal(tmp_path / "run", {"seed": 1}) as journal:
        assert not journal.resumed and journal.get("forms.json") is None


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match=r"holds letters\.txt"):
        RunJournal(tmp_path / "run", {"seed": 0}, overwrite=True)
    assert (tmp_path / "run" / "letters.txt").read_text() == "dear"


def test_one_process_at_a_time(tmp_path):
    with RunJournal(tmp_path / "run", {}), pytest.raises(OutputError, match="another ggufrope is tuning there"):
        RunJournal(tmp_path / "run", {})


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut off"])
def test_a_damaged_state_is_refused(tmp_path, content):
    run(tmp_path / "run", steps=2)
    (tmp_path / "run" / "full.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"full\.npz: not a state of this run"):
        run(tmp_path / "run", steps=2)


def test_rises_are_shares_by_length():
    found = rises({512: [2.0, 4.0], 64: [3.0]}, {512: [2.0, 4.06], 64: [2.97]})
    assert [(r.length, r.texts) for r in found] == [(64, 1), (512, 2)]
    assert [r.share for r in found] == pytest.approx([-0.01, 0.01])
    assert within(found, 0.0101) and not within(found, 0.0099)
    with pytest.raises(ValueError, match="the same texts"):
        rises({64: [3.0]}, {64: [3.0, 1.0]})

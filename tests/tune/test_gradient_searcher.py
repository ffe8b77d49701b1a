"""Steps along a gradient: they improve what they follow, keep what must be kept, and go on where they were."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_toys import packed_text, toys

from ggufrope.errors import InputError, UnsupportedModelError
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.spaces import SPACES
from ggufrope.tune.tuning_texts import TuningQuestion, TuningText, as_text


@pytest.fixture(scope="module")
def make(runtime_dir, tmp_path_factory):
    with toys(tmp_path_factory.mktemp("toys")) as made:
        yield made


def texts_for(step):
    toy = packed_text(prefix=30, seed=step % 2)
    questions = tuple(TuningQuestion(str(i), i / 3, q.tokens, q.answer) for i, q in enumerate(toy.questions))
    return [TuningText(f"kv/{step}", toy.prefix, questions), as_text(f"keep/{step}", [*toy.prefix[:20]])]


def searcher(file, space="full", settings=None, texts=texts_for, **options):
    from ggufrope.tune.gradient.gradient_searcher import AdamSettings, GradientSearcher

    layout = PairLayout.of(file.decoded.model)
    chosen = AdamSettings(**(settings or {}))
    return GradientSearcher(SPACES[space], layout, file, texts, settings=chosen, threads=1, **options)


def test_steps_make_the_objective_smaller(make):
    found = searcher(make("llama"), settings={"rate": 0.02, "keep": 0.0}, texts=lambda _: texts_for(0))
    reports = [found.advance(step) for step in range(8)]
    assert reports[-1].objective < reports[0].objective - 1
    assert [report.step for report in reports] == list(range(8))
    assert reports[0].tokens == texts_for(0)[0].n_read + 2 * texts_for(0)[1].n_read


def test_killed_and_resumed_equals_not_killed_to_the_bit(make):
    file = make("llama")
    whole = searcher(file)
    for step in range(2):
        whole.advance(step)
    kept = whole.state()
    other = searcher(file)
    other.restore({name: values.copy() for name, values in kept.items()})
    for step in (2, 3):
        whole.advance(step)
        other.advance(step)
    assert whole.theta.tobytes() == other.theta.tobytes()
    assert all(whole.state()[name].tobytes() == values.tobytes() for name, values in other.state().items())
    assert np.abs(whole.theta).max() > 0


def test_a_text_to_keep_pulls_back(make):
    """Its loss, which is above what is allowed from the start, ends lower with the penalty than without."""
    import torch

    from ggufrope.tune.gradient.gradient_searcher import _loss

    rises = []
    for keep in (0.0, 300.0):
        found = searcher(make("llama"), settings={"rate": 0.02, "keep": keep}, texts=lambda _: texts_for(0), allow=-0.5)
        for step in range(6):
            found.advance(step)
        text, log_factors = texts_for(0)[1], torch.from_numpy(np.append(found.theta, 0.0)[found._index.numpy()])
        with torch.no_grad():
            after = _loss([reading.log_probs for reading in found._model.read(text, log_factors)])
        rises.append(float(after) - found._untouched(text))
    assert rises[1] < rises[0] - 0.02


def test_bounds_hold(make):
    found = searcher(make("llama"), space="layers", settings={"rate": 5.0})
    for step in range(3):
        found.advance(step)
    low, high = SPACES["layers"].bounds
    assert found.theta.min() >= low
    assert found.theta.max() <= high
    assert {abs(x) for x in found.theta} & {abs(low), high}


def test_what_is_not_finite_moves_nothing(make):
    found = searcher(make("llama"))
    found._model._rotations = lambda row, factors: [None] * 3
    found._model._prove = lambda now: None
    found._theta[0] = np.nan
    before = found.state()
    assert np.isnan(found.advance(0).objective)
    assert found.state()["mean"].tobytes() == before["mean"].tobytes()


def test_another_space_s_state_and_a_space_without_gradient_are_refused(make):
    file = make("llama")
    with pytest.raises(InputError, match="space 'layers' with 3 parameters, this one is of 'full'"):
        searcher(file).restore(searcher(file, space="layers").state())
    curve = next(name for name, space in SPACES.items() if not space.differentiable)
    with pytest.raises(UnsupportedModelError, match=f"--space {curve}: .*--engine blind"):
        searcher(file, space=curve)


def test_what_a_step_needs_is_said_before_it(make, monkeypatch):
    from ggufrope.tune.gradient import memory_need
    from ggufrope.tune.gradient.ability import why_no_gradient

    file = make("llama")
    assert why_no_gradient(file, 500) == ""
    monkeypatch.setattr(memory_need, "available", lambda: 2 * 10**9)
    assert why_no_gradient(file, 500) == ""
    said = why_no_gradient(file, 10**6)
    assert "tokens needs about" in said
    assert "2.0 GB are free; give a shorter --length, or take --engine blind" in said
    assert "--engine blind takes it" in why_no_gradient(make("gpt_neox"))

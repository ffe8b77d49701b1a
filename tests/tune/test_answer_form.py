"""In which form a model answers, with engines that answer in a form of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine

from ggufrope.evals.task import Example
from ggufrope.evals.tasks import TASKS, make
from ggufrope.inference.requests import Answer, Likelihood
from ggufrope.tune.answer_form import answer_form, core, lead_of
from ggufrope.tune.tuning_texts import texts_of

DEPTHS = (0.0, 1.0)


def example(draft, *answers):
    return Example("0", None, "prompt", "start", answers, draft)


@pytest.mark.parametrize(
    ("draft", "answers", "expected"),
    [
        (' "abc"', ("abc",), (' "', "abc")),
        (" abc", ("abc", "b"), (" ", "abc")),
        (" 12, 34, and 56.", ("12", "34", "56"), (" ", "12, 34, and 56")),
        (" yes", ("no",), ("", " yes")),
    ],
)
def test_the_core_of_a_draft(draft, answers, expected):
    assert core(example(draft, *answers)) == expected


def test_the_most_frequent_lead_of_right_answers():
    examples = [example(f' "v{i}"', f"v{i}") for i in range(6)]
    outputs = [" v0 is", ' "v1"', ' "v2"', " it is v3", "no", " v9"]
    assert lead_of(outputs, examples) == ' "'
    assert lead_of(["well, v0", "so: v1"], examples[:2]) == "so: ", "the shortest of equals"
    assert lead_of(["no", "neither"], examples[:2]) is None


class Answering(FakeEngine):
    """Answers right with ``form`` before it, or not at all; and finds one form likelier."""

    form, likely = " ", " "

    def greedy(self, requests, progress=None):
        for index, request in enumerate(requests):
            value = self.text(request.draft).strip().strip('"')
            yield index, Answer("none" if self.form is None else f"{self.form}{value} .", (), "limit")

    def likelihoods(self, pairs):
        for index, (_, answer) in enumerate(pairs):
            yield index, Likelihood(-1.0 if self.text(answer).startswith(self.likely) else -9.0, False)


@pytest.mark.parametrize(("form", "likely", "expected"), [(' "', " ", ' "'), (" ", ' "', " "), (None, ' "', ' "')])
def test_the_form_is_the_model_s(monkeypatch, form, likely, expected):
    engine = Answering(SimpleNamespace(path=Path("fake.gguf")), n_ctx=4096)
    monkeypatch.setattr(Answering, "form", form)
    monkeypatch.setattr(Answering, "likely", likely)
    task = make(TASKS["kv-retrieval"], {})
    asked = {"length": 300, "depths": DEPTHS, "n": 2, "seed": 1}
    lead = answer_form(engine, task, **asked)
    assert lead == expected
    drafts, own = texts_of(task, engine, **asked), texts_of(task, engine, **asked, lead=lead)
    for draft, text in zip(drafts, own, strict=True):
        assert (draft.prefix, [q.tokens for q in draft.questions]) == (text.prefix, [q.tokens for q in text.questions])
        for theirs, ours in zip(draft.questions, text.questions, strict=True):
            value = engine.text(theirs.answer).strip().strip('"')
            assert engine.text(ours.answer) == lead + value, "nothing behind the answer"

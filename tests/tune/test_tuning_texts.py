"""Texts of tasks and files: the prompts that ``eval`` reads, cut at what they share; splits that share nothing."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine, model_file

from ggufrope.errors import UsageError
from ggufrope.evals.answers import Asked, ask
from ggufrope.evals.chat_wrapping import chosen_template, wrapper
from ggufrope.evals.tasks import TASKS, make
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.file_parts import has_parts, in_parts
from ggufrope.tune.plain_text import SHARES, PlainText
from ggufrope.tune.tuning_texts import texts_of

DATA = Path(__file__).parents[1] / "evals" / "data"
DEPTHS = (0.0, 0.5, 1.0)
TEMPLATE = "{{ bos_token }}<|user|> {{ messages[0]['content'] }} <|end|> <|assistant|> "


@pytest.fixture
def engine():
    FakeEngine.reset()
    return FakeEngine(SimpleNamespace(path=Path("fake.gguf")), n_ctx=4096)


def kv(engine, seed=0, **changes):
    given = {"length": 400, "depths": DEPTHS, "n": 3, "seed": seed, **changes}
    return texts_of(TASKS["kv-retrieval"](), engine, **given)


class Recorder(FakeEngine):
    """Keeps what it is asked."""

    def greedy(self, requests, progress=None):
        self.requests = [*getattr(self, "requests", []), *requests]
        return super().greedy(requests, progress)


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat"])
@pytest.mark.parametrize("name", ["kv-retrieval", "niah", "babi-where", "passkey"])
def test_prompts_are_those_of_eval(tmp_path, name, template):
    file = ModelFile.open(model_file(tmp_path / "model.gguf", template=template))
    recorder = Recorder(file, n_ctx=4096)
    wrap = wrapper(file, chosen_template(file, None), None, adds_bos=recorder.begins_with_bos)
    task = make(TASKS[name], {})
    answers = ask(recorder, task, Asked(500, DEPTHS, 2, 7, wrap), lambda _done, _total: None)
    texts = texts_of(task, recorder, length=500, depths=DEPTHS, n=2, seed=7, wrap=wrap)
    pairs = [pair for text in texts for pair in text.pairs()]
    assert [(r.prompt, r.draft) for r in recorder.requests] == pairs
    asked = [question for text in texts for question in text.questions]
    assert [(e.name, e.depth) for e in answers.examples] == [(q.name, q.depth) for q in asked]
    assert ("<|user|>" in recorder.text(texts[0].prefix[1:])) == (template is not None)


def test_a_prefix_is_all_that_the_prompts_share(engine):
    for text in kv(engine):
        assert len(text.questions) == len(DEPTHS)
        firsts = {question.tokens[0] for question in text.questions}
        assert len(firsts) > 1, "one more token would not be shared"
        assert len(text.prefix) > 20 * max(len(question.tokens) for question in text.questions) / 10
        assert text.length == max(len(prompt) + len(answer) for prompt, answer in text.pairs()) <= 400
        assert text.n_read == len(text.prefix) + sum(len(q.tokens) + len(q.answer) - 1 for q in text.questions)


def test_the_same_seed_gives_the_same_texts_and_another_none_of_them(engine):
    assert kv(engine) == kv(engine)
    assert not {t.prefix for t in kv(engine)} & {t.prefix for t in kv(engine, seed=1)}
    assert not {t.name for t in kv(engine)} & {t.name for t in kv(engine, seed=1)}
    assert kv(engine, n=5)[:3] == kv(engine)


def test_a_single_question_has_nothing_behind_its_prefix(engine):
    (text,) = kv(engine, n=1, depths=(0.5,))
    assert [question.tokens for question in text.questions] == [()]


def test_answers_without_tokens_of_their_own(engine, monkeypatch):
    monkeypatch.setattr(engine, "prompt", lambda text: [len(text)] * (len(text) // 5))
    with pytest.raises(UsageError, match="kv-retrieval: no answer of text kv-retrieval/400/0/0 has tokens of its own"):
        kv(engine)


def questions(n):
    """A file of questions, each with a gold document and another one."""
    return [
        json.dumps({
            "question": f"who owns number {i}", "answers": [f"owner{i}"],
            "ctxs": [{"title": f"T{i}", "text": f"number {i} belongs to owner{i} since long ago", "isgold": True},
                     {"title": f"U{i}", "text": f"the shop {i} is closed on all Sundays"}],
        }) for i in range(n)
    ]  # fmt: skip


def mdqa(path, lines, **options):
    path.write_text("".join(f"{line}\n" for line in lines))
    return make(TASKS["mdqa"], {"data": path, "documents": 4, **options})


def test_files_are_dealt_out_by_what_they_ask(tmp_path, engine):
    lines = questions(40)
    twice = json.dumps({**json.loads(lines[0]), "question": "Who owns  number 0"})  # the same to a person
    task = mdqa(tmp_path / "questions.jsonl", [*lines, twice])
    assert has_parts(task)
    parts = in_parts(task, tmp_path)
    assert list(parts) == ["train", "select", "report"]
    read = {split: part.data.read_text().splitlines() for split, part in parts.items()}
    assert sorted(line for part in read.values() for line in part) == sorted([*lines, twice])
    counts = {
        split: len({json.loads(line)["question"].lower().split()[-1] for line in part}) for split, part in read.items()
    }
    assert counts == {"train": 24, "select": 6, "report": 10}
    assert sum(lines[0] in part and twice in part for part in read.values()) == 1
    # no document stands in the texts of two splits
    seen = {}
    for split, part in parts.items():
        for text in texts_of(part, engine, length=400, depths=(0.5,), n=5, seed=3):
            for title in (word for word in engine.text(text.prefix[1:]).split() if word.startswith("(T")):
                assert seen.setdefault(title, split) == split
    assert len(set(seen.values())) == 3
    # packed, and in another order: the same parts
    packed = tmp_path / "again.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join([twice, *lines[::-1]]).encode()))
    again = in_parts(replace(task, data=packed), tmp_path)
    assert {s: sorted(p.data.read_text().splitlines()) for s, p in again.items()} == {
        s: sorted(p) for s, p in read.items()
    }


def test_too_few_questions(tmp_path, engine):
    with pytest.raises(UsageError, match=r"7 records, which would be 4 to train, 1 to select, 2 to report; each split"):
        in_parts(mdqa(tmp_path / "few.jsonl", questions(7)), tmp_path)
    part = in_parts(mdqa(tmp_path / "q.jsonl", questions(40)), tmp_path)["select"]
    with pytest.raises(UsageError, match="mdqa: 7 texts are needed and its file gives 6"):
        texts_of(part, engine, length=400, depths=(0.5,), n=7, seed=0)


def test_a_haystack_is_cut_at_sentences(tmp_path):
    path = tmp_path / "hay.txt"
    path.write_text(" ".join(f"This is sentence {chr(97 + i % 26)}{i}x." for i in range(200)))
    task = make(TASKS["niah"], {"haystack": path})
    parts = {split: part.haystack.read_text().split(". ") for split, part in in_parts(task, tmp_path).items()}
    assert {split: len(part) for split, part in parts.items()} == {"train": 120, "select": 30, "report": 50}
    path.write_text("One. Two. " * 40)
    with pytest.raises(UsageError, match=r"80 sentences, which would be 48 to train, 12 to select, 20 to report; each"):
        in_parts(task, tmp_path)


def test_tasks_without_files_are_the_same_for_all_splits(tmp_path):
    task = make(TASKS["kv-retrieval"], {})
    assert not has_parts(task)
    assert in_parts(task, tmp_path) == dict.fromkeys(SHARES, task)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def text(tmp_path, engine):
    path = tmp_path / "text.txt"
    path.write_text(" ".join(f"w{i}x" for i in range(1000)))
    return PlainText.read(path, engine)


def test_splits_of_a_text_share_no_token(text, engine):
    assert {split: len(ids) for split, ids in text.parts.items()} == {"train": 600, "select": 150, "report": 250}
    assert len({i for ids in text.parts.values() for i in ids}) == 1000
    for split in SHARES:
        for one in text.texts(split, length=40, n=3, seed=1):
            assert one.prefix == (0,), "BOS"
            assert set(one.questions[0].answer) <= set(text.parts[split])
            assert len(one.questions[0].answer) == 39
            assert one.length == 40


def test_places_follow_the_seed(text):
    assert text.texts("train", length=40, n=3, seed=1) == text.texts("train", length=40, n=3, seed=1)
    assert text.texts("train", length=40, n=3, seed=1) != text.texts("train", length=40, n=3, seed=2)
    pieces = [one.questions[0].answer for one in text.texts("report", length=40, n=6, seed=1)]
    assert len({token for piece in pieces for token in piece}) == 6 * 39, "they do not overlap"
    assert text.most("report", 40) == 6


def test_a_text_that_is_too_short(text):
    with pytest.raises(
        UsageError,
        match=r"1000 tokens, of which 15% \(150\) are for the select split, and it needs 160 for 4 texts of 40",
    ):
        text.texts("select", length=40, n=4, seed=0)
    with pytest.raises(UsageError, match=r"60% \(600\) are for the train split, and it needs 601 for one text"):
        text.texts("train", length=601, n=1, seed=0)
    assert len(text.texts("train", length=600, n=2, seed=0)) == 2

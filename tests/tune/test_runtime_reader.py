"""Readings on the runtime against a float64 forward pass, and against the plain session."""

from __future__ import annotations

import random

import numpy as np
import pytest
from demo_model.text import make_quiz
from tiny_transformer import ARCHITECTURES, TinyModel

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.inference.kv_types import KvCache
from ggufrope.inference.requests import Request
from ggufrope.inference.session import open_strict
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.runtime_reader import RuntimeReader
from ggufrope.tune.tuning_texts import TuningQuestion, TuningText, as_text


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


def expected(rows, prompt, answer):
    """Log-probabilities and margins of an answer, from log-probabilities at all positions."""
    found = []
    for place, token in enumerate(answer):
        row = rows[len(prompt) - 1 + place].copy()
        own, row[token] = row[token], -np.inf
        found.append((own, own - row.max()))
    return np.array(found).T


def random_text(seed, prefix=40, vocab=60):
    rng = np.random.default_rng(seed)

    def tokens(n):
        return tuple(int(t) for t in rng.integers(3, vocab, n))

    sizes = [(7, 5), (0, 1), (9, 12)]
    asked = tuple(TuningQuestion(f"0/{i}", i / 2, tokens(a), tokens(b)) for i, (a, b) in enumerate(sizes))
    return TuningText(f"random/{seed}", tokens(prefix), asked)


def compare(readings, text, rows_of, tolerance):
    assert len(readings) == len(text.questions)
    for reading, (prompt, answer) in zip(readings, text.pairs(), strict=True):
        log_probs, margins = expected(rows_of([*prompt, *answer]), prompt, answer)
        np.testing.assert_allclose(reading.log_probs, log_probs, atol=tolerance)
        np.testing.assert_allclose(reading.margins, margins, atol=tolerance)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_readings_are_those_of_a_float64_forward_pass(runtime_dir, tmp_path, arch):
    model, path = TinyModel(arch), tmp_path / "model.gguf"
    path.write_bytes(model.file(words=True))
    texts = [random_text(seed, prefix) for seed, prefix in ((0, 40), (1, 3), (2, 90))]
    texts.append(as_text("plain", (5, 6, *random_text(3).prefix)))
    with RuntimeReader(path, n_ctx=128, threads=1, kv_type="f32") as reader:
        log_factors = np.random.default_rng(4).uniform(-0.5, 0.7, reader.layout.size)
        plain = reader.read(texts)
        for table in (np.zeros(reader.layout.size), log_factors):
            factors = np.exp(np.stack(reader.layout.split(table)))
            reader.set(table)
            for text, readings in zip(texts, reader.read(texts), strict=True):
                compare(readings, text, lambda ids, f=factors: log_softmax(model.logits(ids, f)), 2e-4)
        reader.set(np.zeros(reader.layout.size))
        for before, after in zip(plain, reader.read(texts), strict=True):
            for a, b in zip(before, after, strict=True):
                np.testing.assert_array_equal(a.log_probs, b.log_probs)
                np.testing.assert_array_equal(a.margins, b.margins)


def test_factors_are_relative_to_the_file_s_own(runtime_dir, tmp_path):
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    path.write_bytes(model.file(words=True))
    carry_out(ConvertRequest(path, converted := tmp_path / "converted.gguf", "ms-poe", {"first_layer": 1}))
    table = ModelFile.open(converted).decoded.table
    own = np.stack([table.head_rows(layer) for layer in range(model.n_layer)])
    assert len(np.unique(own)) > 2
    text = random_text(5)
    with RuntimeReader(converted, n_ctx=128, threads=1, kv_type="f32") as reader:
        more = np.random.default_rng(6).uniform(-0.3, 0.3, reader.layout.size)
        for table in (np.zeros(reader.layout.size), more):
            factors = own * np.exp(np.stack(reader.layout.split(table)))
            reader.set(table)
            compare(reader.read([text])[0], text, lambda ids, f=factors: log_softmax(model.logits(ids, f)), 2e-4)


def demo_texts(engine, lengths):
    """The demo model's quizzes of so many words, with their right answers; three questions each."""
    texts = []
    for seed, words in enumerate(lengths):
        text, facts = make_quiz(random.Random(seed), words, (0.1, 0.5, 0.9))
        prefix = engine.prompt(" ".join([*text, "so", "give"]))
        asked = (
            TuningQuestion(name, None, tuple(engine.tokens(name)), tuple(engine.tokens(f"{thing} . so give")))
            for name, thing in facts
        )
        texts.append(TuningText(str(words), tuple(prefix), tuple(asked)))
    return texts


#: By type of the cache: how far log-probabilities of F16 weights may be from those that the plain session reads with
#: the same cache (other batches round in other places), and from those with an F32 cache (K and V as they are).
LIMITS = {"f32": (5e-3, 5e-3), "f16": (2e-2, 2e-2), "q8_0": (5e-2, 0.15)}


@pytest.mark.parametrize("kv_type", LIMITS)
def test_caches_change_little_and_every_prefix_is_read_once(demo_file, kv_type):
    path = demo_file()
    with RuntimeReader(path, n_ctx=300, threads=1, kv_type=kv_type) as reader:
        texts = demo_texts(reader.engine, (60, 150, 220))
        table = np.random.default_rng(7).uniform(0.0, 0.1, reader.layout.size)
        reader.set(table)
        before = reader.tokens
        found = reader.read(texts)
        assert reader.tokens - before == sum(text.n_read for text in texts)
        own = reader.engine.pair_factors()
    for cache, limit in zip((KvCache.choose(kv_type), KvCache()), LIMITS[kv_type], strict=True):
        with open_strict(path, 300, cache=cache, threads=1) as session:
            session.set_pair_factors(own)
            for text, readings in zip(texts, found, strict=True):
                compare(readings, text, lambda ids, s=session: np.concatenate(list(s.log_probs(ids))), limit)


def test_each_text_is_read_at_the_row_of_its_length(demo_file):
    path = demo_file("dynamic-ntk", factor=4.0)
    with RuntimeReader(path, n_ctx=800, threads=1) as reader:
        texts = demo_texts(reader.engine, (200, 700, 300))
        reader.set(np.full(reader.layout.size, 0.05))
        found = reader.read(texts)
        own = reader.engine.pair_factors()
    assert texts[1].length > 512 > texts[2].length
    with open_strict(path, 800, threads=1) as session:
        session.set_pair_factors(own)
        for text, readings in zip(texts, found, strict=True):
            compare(readings, text, lambda ids: np.concatenate(list(session.log_probs(ids))), LIMITS["f16"][1])


def test_greedy_answers_have_the_factors_that_were_set(demo_file):
    with RuntimeReader(demo_file(), n_ctx=300, threads=1) as reader:
        (text,) = demo_texts(reader.engine, (200,))
        requests = [Request(prompt, max_new=4) for prompt, _ in text.pairs()]
        before = {place: answer.tokens for place, answer in reader.engine.greedy(requests)}
        reader.set(np.full(reader.layout.size, 1.0))
        broken = {place: answer.tokens for place, answer in reader.engine.greedy(requests)}
        reader.set(np.zeros(reader.layout.size))
        assert {place: answer.tokens for place, answer in reader.engine.greedy(requests)} == before != broken


def test_what_cannot_be_read_or_set(demo_file):
    with pytest.raises(UnsupportedModelError, match="ordered anew for each prompt, so that it has no table"):
        RuntimeReader(demo_file("ms-poe", head_order="per-prompt"), n_ctx=64)
    with RuntimeReader(demo_file(), n_ctx=64, threads=1) as reader:
        for wrong in (np.zeros(3), np.full(reader.layout.size, np.nan)):
            with pytest.raises(UsageError, match="log factors of shape"):
                reader.set(wrong)
        with pytest.raises(UsageError, match="do not fit n_ctx 64"):
            reader.read([as_text("long", range(5, 75))])


def test_factors_end_a_job_that_reads_with_others(demo_file):
    with RuntimeReader(demo_file(), n_ctx=64, threads=1) as reader:
        running = reader.engine.log_probs(list(range(5, 30)))
        next(running)
        reader.set(np.zeros(reader.layout.size))
        with pytest.raises(UsageError, match="another job began"):
            next(running)

"""The engine against its own naive path: whatever is shared, drafted or settled, the answers are greedy decoding's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import answers, quiz, test_set

from ggufrope.errors import UnsupportedModelError, UsageError
from ggufrope.inference import engine as engine_module
from ggufrope.inference import opening, stream
from ggufrope.inference.context import Context
from ggufrope.inference.engine import Engine
from ggufrope.inference.requests import Answer, Request
from ggufrope.inference.stream import ExactStream, Stream
from ggufrope.runtime.library import bindings
from ggufrope.runtime.locate import Runtime
from ggufrope.runtime.programs import quantize

N_CTX = 560
POINT = 512  # the first length point of dynamic-ntk on this model


def both(file, requests_of, **options):
    """Answers of the engine and of its naive path, and the engine's tokens (evaluated, asked)."""
    found = []
    for share in (True, False):
        with Engine(file, n_ctx=N_CTX, threads=2, share=share, **options) as engine:
            requests = requests_of(engine)
            found.append(answers(engine, requests))
            if share:
                counts = engine.evaluated, engine.asked
            else:
                assert engine.evaluated == engine.asked == counts[1]
    return *found, counts


@pytest.fixture(scope="module")
def naive(demo_file):
    """The test set and its answers, decoded one by one."""
    with Engine(demo_file(), n_ctx=N_CTX, threads=2, share=False) as engine:
        requests = test_set(engine)
        return requests, answers(engine, requests)


def test_every_answer_of_the_test_set_is_greedy_decoding_s(demo_file, naive):
    requests, expected = naive
    assert len(requests) >= 100
    with Engine(demo_file(), n_ctx=N_CTX, threads=2) as engine:
        assert answers(engine, requests) == expected
        assert engine.asked > 3 * engine.evaluated
    # the set asks for what it should: right and wrong answers, every reason but an end of generation
    assert {answer.reason for answer in expected} == {"limit", "settled", "stop"}
    right = sum(
        answer.tokens[: len(r.draft)] == r.draft[: len(answer.tokens)] for r, answer in zip(*naive, strict=True)
    )
    assert len(requests) / 5 < right < len(requests) * 4 / 5


@pytest.mark.parametrize("kind", ["f16", "q8_0 cache", "Q4_K_M"])
def test_what_is_too_close_is_decoded_with_the_bits_of_naive_decoding(demo_file, tmp_path, monkeypatch, kind):
    leads = []

    def advance(self, before=Stream.advance):
        found, taken = self._choices, self.writer.taken
        before(self)
        if not self.too_close:
            leads[-1].setdefault(self.prompt, []).extend(found[: self.writer.taken - taken])

    monkeypatch.setattr(Stream, "advance", advance)
    monkeypatch.setattr(stream, "best", lambda rows, gaps, real=stream.best: real(rows, gaps=True))
    monkeypatch.setattr(engine_module, "margin", lambda *_, **__: np.inf)  # everything is too close
    file, options = demo_file(), {"kv_type": "q8_0"} if kind == "q8_0 cache" else {}
    if kind == "Q4_K_M":
        quantize(file, file := tmp_path / "quantized.gguf", kind)
    for share in (True, False):
        leads.append({})
        with Engine(file, n_ctx=N_CTX, threads=2, share=share, n_batch=128, **options) as engine:
            requests = quiz(engine, 200, seed=1)[:5] + quiz(engine, 300, seed=2)[:4]
            answers(engine, requests)
            assert engine.repeated == (9 if share else 0)
    shared, single = leads
    assert shared == single  # floats, to the bit
    assert sum(map(len, single.values())) > 50


def test_close_choices_between_drafts_have_the_bits_of_naive_decoding(demo_file, monkeypatch):
    close, leads = 0.7, []

    def advance(self, before=Stream.advance):
        exact, found, taken = isinstance(self, ExactStream) and self._needed == 0, self._choices, self.writer.taken
        before(self)
        for place, (token, gap) in enumerate(found[: self.writer.taken - taken]):
            leads[-1].setdefault(self.prompt, {})[taken + place] = token, gap, exact

    monkeypatch.setattr(Stream, "advance", advance)
    monkeypatch.setattr(stream, "best", lambda rows, gaps, real=stream.best: real(rows, gaps=True))
    monkeypatch.setattr(engine_module, "margin", lambda *_, **__: close)
    drafts = {}
    for share in (False, True):
        leads.append({})
        with Engine(demo_file(), n_ctx=N_CTX, threads=1, share=share) as engine:
            asked = quiz(engine, 90, seed=1, max_new=16)
            asked = [replace(request, draft=drafts.get(request.prompt, ())) for request in asked]
            found = answers(engine, asked)
            drafts = {request.prompt: answer.tokens for request, answer in zip(asked, found, strict=True)}
    single, shared = leads
    assert shared.keys() == single.keys()
    pairs = [(shared[prompt][i], said) for prompt, choices in single.items() for i, said in choices.items()]
    assert [ours[0] for ours, _ in pairs] == [plain[0] for _, plain in pairs]
    assert all(ours[1] == plain[1] for ours, plain in pairs if plain[1] < close)  # floats, to the bit
    kinds = [(plain[1] < close, ours[2]) for ours, plain in pairs]
    assert kinds.count((True, True)) > 3  # close, and read one by one
    assert kinds.count((False, False)) > 10  # clear, and not


@pytest.mark.parametrize("options", [{"n_parallel": 1}, {"n_parallel": 3, "n_batch": 16}, {"threads": 1}])
def test_neither_batches_nor_threads_change_answers(demo_file, naive, options):
    requests, expected = naive
    with Engine(demo_file(), **{"n_ctx": N_CTX, "threads": 2} | options) as engine:
        assert answers(engine, requests[:45]) == expected[:45]


def test_two_runs_agree_exactly(demo_file, naive):
    requests, _ = naive
    with Engine(demo_file(), n_ctx=N_CTX, threads=2) as engine:
        assert list(engine.greedy(requests[:27])) == list(engine.greedy(requests[:27]))


@pytest.mark.parametrize("kv_type", ["f32", "q8_0", "q4_0"])
def test_types_of_the_cache(demo_file, kv_type):
    shared, single, _ = both(
        demo_file(), lambda engine: quiz(engine, 150, seed=1) + quiz(engine, 90, seed=2), kv_type=kv_type
    )
    assert shared == single


def test_one_head_ratio_for_each_head(demo_file):
    shared, single, _ = both(
        demo_file("ms-poe", from_wavelength=0), lambda engine: quiz(engine, 300, seed=3, max_new=8)
    )
    assert shared == single


def test_a_row_for_each_length(demo_file):
    file = demo_file("dynamic-ntk", factor=8.0, granularity=8.0)  # two rows that are far from each other

    def around_the_point(engine):
        # prompts from 497 to 515 tokens, answers of up to 12: before, across and behind the point
        lengths = (POINT - 18, POINT - 8, POINT)
        return [r for seed, words in enumerate(lengths) for r in quiz(engine, words, seed=seed, max_new=12)[:4]]

    shared, single, (evaluated, asked) = both(file, around_the_point)
    assert shared == single
    assert asked > evaluated


def test_the_row_is_that_of_naive_decoding(demo_file, monkeypatch):
    # a text of one row beside one of another; the long one takes two batches, of which the first alone would be short
    seen = []

    def evaluate(self, part, before=Context._evaluate):
        result = before(self, part)
        seen[-1].append((self._api.length_row(self._raw.ctx), len(part["token"])))
        return result

    monkeypatch.setattr(Context, "_evaluate", evaluate)
    file, found = demo_file("dynamic-ntk", factor=8.0, granularity=8.0), []
    for share in (True, False):
        with Engine(file, n_ctx=700, threads=2, share=share) as engine:
            requests = [*quiz(engine, 600, seed=2)[:2], *quiz(engine, 100, seed=1)[:2]]
            seen.append([])
            found.append(answers(engine, requests))
    assert found[0] == found[1]
    for batches in seen:
        assert {row for row, _ in batches} == {0, 1}
        # the first batch of the long text is 512 tokens, which on their own the first row would serve
        assert {row for row, n in batches if n == 512} == {1}


def test_an_order_of_heads_for_each_prompt(demo_file):
    file = demo_file("ms-poe", head_order="per-prompt")
    shared, single, (evaluated, asked) = both(file, lambda engine: quiz(engine, 120, seed=4)[:5])
    assert shared == single
    assert evaluated < asked + 5 * 3  # drafts that fail are read for nothing, and nothing else is


def test_equal_prompts_and_prompts_that_begin_others(demo_file):
    def nested(engine):
        prompt = quiz(engine, 80, seed=5)[0].prompt
        return [Request(prompt[:n], max_new=3) for n in (1, 2, 2, 40, len(prompt), len(prompt), len(prompt) - 1)]

    shared, single, _ = both(demo_file(), nested)
    assert shared == single


def test_stop_settled_and_limit(demo_file):
    with Engine(demo_file(), n_ctx=N_CTX, threads=2) as engine:
        request = quiz(engine, 60, seed=6, max_new=8)[3]
        [whole] = answers(engine, [request])
        assert whole.reason == "limit"
        assert engine.text(whole.tokens) == whole.text
        words = whole.text.split()
        first = f" {words[0]}"
        [stopped, settled, none, one] = answers(
            engine,
            [
                replace(request, stop=(" .",)),
                replace(request, settled=lambda text: text.endswith(words[0])),
                replace(request, max_new=0),
                replace(request, max_new=1),
            ],
        )
        assert stopped == Answer(first, whole.tokens[:1], "stop")
        assert settled == Answer(first, whole.tokens[:1], "settled")
        assert none == Answer("", (), "limit")
        assert one == Answer(first, whole.tokens[:1], "limit")


def test_progress_and_counters(demo_file):
    with Engine(demo_file(), n_ctx=N_CTX, threads=2) as engine:
        requests, seen = quiz(engine, 60, seed=7), []
        for _ in engine.greedy(requests, lambda done, total: seen.append((done, total))):
            pass
        assert seen == [(n, 9) for n in range(1, 10)]
        assert engine.asked == sum(len(r.prompt) + 5 for r in requests)
        assert 0 < engine.evaluated < 2 * engine.asked


def test_what_does_not_fit_is_said(demo_file):
    with Engine(demo_file(), n_ctx=64, threads=1) as engine:
        with pytest.raises(UsageError, match="request 1: 60 tokens and 9 behind them do not fit n_ctx 64"):
            engine.greedy([Request((1, 2)), Request((5,) * 60, max_new=10)])
        with pytest.raises(UsageError, match="no token"):
            engine.greedy([Request(())])
        with pytest.raises(UsageError, match="pair 0"):
            engine.likelihoods([((), (3,))])
        with pytest.raises(UsageError, match="65 tokens"):
            engine.log_probs([1] * 65)
        first = engine.greedy([Request((1, 5, 6), max_new=1)] * 2)
        next(first)
        list(engine.greedy([Request((1, 7), max_new=1)]))
        with pytest.raises(UsageError, match="another job"):
            list(first)


def test_options_are_checked(demo_file):
    for options, message in [
        ({"kv_type": "q5_1"}, "kv_type 'q5_1': unknown; one of f32, f16"),
        ({"kv_type": "q8_0", "flash_attn": False}, "flash attention"),
        ({"n_ctx": 0}, "n_ctx 0"),
        ({"n_parallel": 256}, "n_parallel 256"),
        ({"threads": 0}, "threads 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            Engine(demo_file(), **{"n_ctx": 32} | options)
    with (
        Engine(demo_file("ms-poe", head_order="per-prompt"), n_ctx=32) as engine,
        pytest.raises(UnsupportedModelError, match=r"ordered anew for each prompt.* convert it with --calibrate TEXT"),
    ):
        engine.log_probs([1, 2])


def test_settings_are_stated(demo_file):
    for kv_type, flash_attn in (("f16", False), ("q8_0", True)):
        with Engine(demo_file(), n_ctx=32, kv_type=kv_type, threads=1) as engine:
            assert (engine.settings.kv_type, engine.settings.flash_attn, engine.settings.threads) == (
                kv_type,
                flash_attn,
                1,
            )
            assert engine.n_vocab == 896
            assert engine.train_ctx == 512
            assert engine.begins_with_bos
            assert engine.chat_template is None


@pytest.mark.parametrize(("backend", "gpu", "expected"), [("cpu", 0, True), ("vulkan", 0, True), ("vulkan", 1, False)])
def test_a_gpu_s_build_without_a_gpu_repeats_as_the_cpu_s_does(demo_file, monkeypatch, backend, gpu, expected):
    """A close choice is made again behind the common beginning there, and not from the prompt's start."""
    read = Runtime.read
    monkeypatch.setattr(opening.Runtime, "read", lambda path: replace(read(path), backend=backend))
    monkeypatch.setattr(bindings().llama_cpp, "llama_supports_gpu_offload", lambda: gpu)
    with Engine(demo_file(), n_ctx=64) as engine:
        assert engine._model.repeatable is expected

"""A session: blocks of log-probabilities in the setting that was asked for, and head factors that stay."""

from __future__ import annotations

import numpy as np
import pytest
from engine_cases import quiz

from ggufrope.errors import InputError, ParameterError, UsageError
from ggufrope.inference.engine import Engine
from ggufrope.inference.kv_types import KvCache
from ggufrope.inference.opening import InferenceSettings
from ggufrope.inference.session import Session, chunk_size, open_strict

IDS = list(range(5, 205))


def read(session, ids=IDS):
    return np.concatenate(list(session.log_probs(ids)))


def test_blocks_are_of_the_size_asked_for(demo_file):
    with open_strict(demo_file(), len(IDS), chunk=64, threads=1) as session:
        assert (session.settings.kv_type, session.settings.flash_attn, session.settings.n_gpu_layers) == (
            "f32",
            False,
            0,
        )
        assert [block.shape for block in session.log_probs(IDS)] == [(n, session.n_vocab) for n in (64, 64, 64, 8)]
        assert session.evaluated == len(IDS)
    with open_strict(demo_file(), len(IDS), cache=KvCache.choose("q8_0"), threads=1) as session:
        assert (session.settings.kv_type, session.settings.flash_attn) == ("q8_0", True)
        assert session.chunk == chunk_size(session.n_vocab) == 256
        assert [len(block) for block in session.log_probs(IDS)] == [len(IDS)]


def test_a_session_and_an_engine_of_the_same_settings_give_the_same_bits(demo_file):
    with open_strict(demo_file("dynamic-ntk", factor=4.0), 256, threads=1) as session:
        strict = read(session)
    with Engine(demo_file("dynamic-ntk", factor=4.0), n_ctx=256, kv_type="f32", threads=1) as engine:
        assert np.array_equal(read(engine), strict)
        list(engine.greedy(quiz(engine, 60, seed=1)[:2]))  # another context in between
        assert np.array_equal(read(engine), strict)


def test_head_factors_stay_when_the_context_changes(demo_file):
    with Engine(demo_file("ms-poe", from_wavelength=0), n_ctx=256, kv_type="f32", threads=1) as engine:
        own, factors = read(engine), engine.head_factors()
        assert (factors != 1).any()
        engine.set_head_factors(np.ones_like(factors))
        plain = read(engine)
        assert np.abs(plain - own).max() > 1e-2
        asked = quiz(engine, 60, seed=1)[:3]
        changed = dict(engine.greedy(asked))  # in a context for answers, made after the change
        assert np.array_equal(engine.head_factors(), np.ones_like(factors))
        assert np.array_equal(read(engine), plain)
        with pytest.raises(ParameterError, match="head factors: 3 values"):
            engine.set_head_factors([1.0, 2.0, 3.0])
        with pytest.raises(ParameterError, match="finite and above 0"):
            engine.set_head_factors(-factors)
    with Engine(demo_file(), n_ctx=256, kv_type="f32", threads=1) as engine:
        assert np.array_equal(read(engine), plain)
        assert dict(engine.greedy(asked)) == changed


def test_what_does_not_fit_is_said_when_it_is_opened(demo_file):
    with open_strict(demo_file(), 16, threads=1) as session:
        with pytest.raises(UsageError, match="text: 17 tokens and 0 behind them do not fit n_ctx 16"):
            session.log_probs([5] * 17)
        with pytest.raises(UsageError, match="no token"):
            session.log_probs([])
    by_length = demo_file("dynamic-ntk", factor=4.0)  # its last row serves 2048 tokens
    with pytest.raises(InputError, match=r"refused the context: .*2048"):
        open_strict(by_length, 4096, threads=1)


def test_tokens_with_and_without_what_a_text_begins_with(demo_file):
    with Session(demo_file(), n_ctx=16, settings=InferenceSettings.choose("f16", 1, None)) as session:
        plain = session.tokens("so give")
        assert session.begins_with_bos
        assert session.tokens("so give", whole=True) == session.prompt("so give") == [session.first_token, *plain]
        assert session.text(plain).strip() == "so give"

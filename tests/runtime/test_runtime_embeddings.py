"""Embeddings and reranking under tables: pooled states, with and without a causal mask, with and without a KV cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from llama_process import run_job
from test_runtime_head_factors import RATIOS, with_factors
from test_runtime_length import POINTS, TOKENS, with_table
from tiny_cache import LengthTable
from tiny_embedder import TinyBert, TinyRanker, Unmasked
from tiny_transformer import ARCHITECTURES, TinyModel

MEAN, LAST, RANK = 1, 3, 4
NON_CAUSAL = 1
TEXTS = [TOKENS[:30], TOKENS[30:100]]

Embed = Callable[..., np.ndarray]


@pytest.fixture
def embed(runtime_dir: Path, tmp_path: Path) -> Embed:
    """Pooled embeddings ``[text, n_embd]``, or scores; in one batch or each by itself."""

    def embed(data: bytes, texts: list[list[int]], *, together: bool = True, **context: int) -> np.ndarray:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        parts = [[text, 0, seq if together else 0] for seq, text in enumerate(texts)]
        steps = [["embed", parts]] if together else [step for part in parts for step in (["clear"], ["embed", [part]])]
        size = {"n_seq_max": len(texts), "kv_unified": True} if together else {}
        outcome = run_job(runtime_dir, path, steps, embeddings=True, **size, **context)
        assert not outcome.error, outcome.last_error or outcome.log[-2000:]
        return np.concatenate(outcome.arrays)

    return embed


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("causal", [True, False])
def test_pooled_states_of_language_models(embed: Embed, arch: str, causal: bool) -> None:
    """Two texts in one batch. As embedding models are made of language models: the mean without a mask, or the last."""
    model = TinyModel(arch) if causal else Unmasked(arch)
    attention = {} if causal else {"attention_type": NON_CAUSAL}
    found = embed(model.file(with_factors(RATIOS)), TEXTS, pooling_type=LAST if causal else MEAN, **attention)
    states = [model.states(text, RATIOS) for text in TEXTS]
    np.testing.assert_allclose(found, [x[-1] if causal else x.mean(0) for x in states], atol=1e-4)
    assert np.abs(found[1] - (model.states(TEXTS[1])[-1] if causal else model.states(TEXTS[1]).mean(0))).max() > 0.02


def test_an_encoder_with_rope(embed: Embed) -> None:
    model = TinyBert()
    data = model.file(with_factors(RATIOS))
    states = [model.states(text, RATIOS) for text in TEXTS]
    found = embed(data, TEXTS, pooling_type=MEAN)
    np.testing.assert_allclose(found, [x.mean(0) for x in states], atol=1e-4)
    assert np.abs(found[1] - model.states(TEXTS[1]).mean(0)).max() > 0.02


def test_a_reranker(embed: Embed) -> None:
    model = TinyRanker()
    found = embed(model.file(with_factors(RATIOS)), TEXTS, pooling_type=RANK)
    np.testing.assert_allclose(found, [model.rank(model.states(text, RATIOS)) for text in TEXTS], atol=1e-4)
    assert np.abs(found - [model.rank(model.states(text)) for text in TEXTS]).max() > 0.02


def test_rows_by_length_of_an_encoder(embed: Embed) -> None:
    """Nothing is cached, so each batch has the row of its own longest text: it also goes back to a smaller one."""
    model = TinyBert()
    table = LengthTable.growing(model.n_rot, POINTS)
    data = model.file(with_table(table, RATIOS))
    texts = [TOKENS[:30], TOKENS[:70], TOKENS[:100], TOKENS[:64]]

    def expected(text: list[int], length: int) -> np.ndarray:
        row = table.row(length)
        return model.states(text, RATIOS, table.factors[row].astype(float), float(table.scales[row])).mean(0)

    alone = embed(data, texts, together=False, pooling_type=MEAN)
    np.testing.assert_allclose(alone, [expected(text, len(text)) for text in texts], atol=1e-4)
    both = embed(data, texts[:2], pooling_type=MEAN)
    np.testing.assert_allclose(both, [expected(text, 70) for text in texts[:2]], atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_rows_by_length_of_a_language_model(embed: Embed, causal: bool) -> None:
    model = TinyModel("llama") if causal else Unmasked("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    attention = {} if causal else {"attention_type": NON_CAUSAL}
    texts = [TOKENS[:70], TOKENS[:100], TOKENS[:30]]
    found = embed(model.file(with_table(table)), texts, together=False, pooling_type=LAST, **attention)
    for text, vector in zip(texts, found, strict=True):
        row = table.row(len(text))
        states = model.states(text, None, table.factors[row].astype(float), float(table.scales[row]))
        np.testing.assert_allclose(vector, states[-1], atol=2e-4)

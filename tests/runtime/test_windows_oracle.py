"""Models with sliding windows, from a Hugging Face directory to logits: the runtime against transformers' own model.

Each class of transformers decides by itself which layers its scaling acts in; nothing here says it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_process import run_job
from tiny_directory import any_vocabulary, directory, log_probs

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.gguf import TypedValue, ValueType, keys, read_header
from ggufrope.gguf.rewrite import rewrite
from ggufrope.modelfile.model_file import ModelFile

IDS = [int(i) for i in np.random.default_rng(0).integers(3, 896, 220)]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
WINDOW = {"sliding_window": 24, "max_position_embeddings": 256}
GEMMA = {"num_hidden_layers": 6, "head_dim": 16, "query_pre_attn_scalar": 16, **WINDOW}
GPT_OSS = {"num_hidden_layers": 4, "head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 4, **WINDOW}


def gemma(rope: dict[str, Any]) -> dict[str, Any]:
    local = {"rope_type": "default", "rope_theta": 1000.0}
    return {"rope_parameters": {"full_attention": {"rope_theta": 50000.0, **rope}, "sliding_attention": local}}


def usual(rope: dict[str, Any], theta: float = 10000.0) -> dict[str, Any]:
    return {"rope_theta": theta, "rope_scaling": rope}


RAMP = {**YARN, "beta_fast": 4.0, "beta_slow": 0.25}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 64}
OLMO = {"num_hidden_layers": 4, **WINDOW}
COHERE = {**OLMO, "tie_word_embeddings": True}
GEMMA2 = {**GEMMA, **COHERE}
LLAMA4 = {"num_hidden_layers": 4, "head_dim": 16, "intermediate_size_mlp": 96, "num_local_experts": 2,
          "attention_chunk_size": 8192, "max_position_embeddings": 256, "attn_temperature_tuning": False}  # fmt: skip

#: Class, configuration, rope entries, and whether stock llama.cpp computes that too.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool]] = {
    "gemma3 yarn": ("Gemma3Text", GEMMA, gemma(YARN), True),
    "gemma3 yarn, attention factor": ("Gemma3Text", GEMMA, gemma({**YARN, "attention_factor": 1.4}), False),
    "gemma3 yarn, ramp": ("Gemma3Text", GEMMA, gemma(RAMP), False),
    "gemma3 linear": ("Gemma3Text", GEMMA, gemma({"rope_type": "linear", "factor": 8.0}), True),
    "gemma2 llama3": ("Gemma2", GEMMA2, usual(LLAMA3), False),
    "gpt-oss, truncate true": ("GptOss", GPT_OSS, usual({**YARN, "truncate": True}, 150000.0), True),
    "gpt-oss, truncate false": ("GptOss", GPT_OSS, usual({**YARN, "truncate": False}, 150000.0), False),
    "olmo3 yarn, attention factor": ("Olmo3", OLMO, usual({**YARN, "attention_factor": 1.3}, 500000.0), True),
    "olmo3 yarn, ramp": ("Olmo3", OLMO, usual(RAMP, 500000.0), False),
    "cohere2 yarn": ("Cohere2", COHERE, {**usual(YARN), "rotary_pct": 1.0}, True),
    "cohere2 yarn, ramp": ("Cohere2", COHERE, {**usual(RAMP), "rotary_pct": 1.0}, False),
    "llama4 yarn, ramp": ("Llama4Text", LLAMA4, usual(RAMP), True),  # by rope_freqs.weight
}
#: The kinds: rows for layers without a window, for all layers, for those with one.
FAST = ("gemma3 yarn, attention factor", "gpt-oss, truncate false", "cohere2 yarn, ramp")


@pytest.fixture(scope="module", autouse=True)
def _converter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    with pytest.MonkeyPatch.context() as patch:
        any_vocabulary(tmp_path_factory.mktemp("site"), patch)
        yield


def kl(folder: Path, model: Path, library: Path) -> float:
    """Mean over positions of the divergence from transformers' distribution to the runtime's."""
    outcome = run_job(library, model, [["eval", IDS, 0, 0]], n_ctx=256)
    assert not outcome.error, outcome.last_error + outcome.log[-2000:]
    found = outcome.arrays[0].reshape(len(IDS), -1).astype(np.float64)
    found -= np.log(np.exp(found - found.max(-1, keepdims=True)).sum(-1, keepdims=True)) + found.max(-1, keepdims=True)
    wanted = log_probs(folder, IDS)
    return float((np.exp(wanted) * (wanted - found)).sum(-1).mean())


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_transformers_own_model(runtime_dir: Path, tmp_path: Path, name: str) -> None:
    kind, config, rope, by_stock = CASES[name]
    folder = directory(tmp_path / "hf", kind, rope, words="spm" if kind.startswith("Gemma") else "bpe", **config)
    out = tmp_path / "out.gguf"
    done = carry_out(ConvertRequest(folder, out, None, outtype="f32"))
    assert kl(folder, out, runtime_dir) < 1e-6
    assert ModelFile.open(out).decoded.needs_patched != by_stock
    assert not any("replaces" in note for note in done.notes) or by_stock
    if name == "gpt-oss, truncate false":
        shift_and_state(runtime_dir, out, tmp_path)


def shift_and_state(library: Path, path: Path, folder: Path) -> None:
    """Rows in layers with a window: a K shift moves their keys too, and a state with other layers is not loaded."""
    first, last = ["eval", IDS[:100], 70, 0], ["eval", IDS[100:130], 100, 0]
    moved = run_job(library, path, [first, ["shift", 0, 0, -1, -70], last], n_ctx=256)
    direct = run_job(library, path, [["eval", IDS[:100], 0, 0], ["save", str(folder / "state")], last], n_ctx=256)
    assert not moved.error + direct.error, moved.last_error + direct.last_error
    np.testing.assert_allclose(moved.arrays[1], direct.arrays[2], atol=2e-4)
    again = run_job(library, path, [["load", str(folder / "state")], last], n_ctx=256)
    assert again.arrays[0][0] == 1
    np.testing.assert_allclose(again.arrays[1], direct.arrays[2], atol=2e-5)  # cells lie in another order
    for flags in (1, 3):  # a checkpoint, as llama-server keeps them: of windows alone, in memory or on the device
        steps = [["eval", IDS[:100], 0, 0], ["keep_seq", 0, flags], last, ["remove", 0, 100, -1]]
        _, through, restored, found = run_job(
            library, path, [*steps, ["restore_seq", 0, flags], last], n_ctx=256
        ).arrays
        assert restored[0] == 1
        np.testing.assert_allclose(found, through, atol=2e-5)
    other, header = folder / "other.gguf", read_header(path)
    marks = TypedValue(ValueType.ARRAY, np.array([False, True] * 2), ValueType.BOOL)
    rewrite(header, other, set={keys.LENGTH_LAYERS: marks})
    assert run_job(library, other, [["load", str(folder / "state")]], n_ctx=256).arrays[0][0] == 0

"""``load`` rotates by what a file says, where llama-cpp-python's own defaults would win over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoint
from llama_process import run_job

from ggufrope.convert.conversion import plan, write
from ggufrope.errors import InputError
from ggufrope.gguf import read_header
from ggufrope.gguf.ggml_types import F32
from ggufrope.modelfile.model_file import ModelFile

IDS = [int(i) for i in np.random.default_rng(0).integers(3, 96, 200)]


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral 3 with YaRN's betas in upstream's keys, which that architecture reads."""
    folder = tmp_path_factory.mktemp("mistral3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny_checkpoint.KINDS, "mistral3", ("Mistral", "mistral3", {"sliding_window": None}))
        source = tiny_checkpoint.make("mistral3", folder / "hf", max_position_embeddings=64)
    out = folder / "yarn.gguf"
    write(plan(ModelFile.open(source), "yarn", {"factor": 4.0, "beta_fast": 8.0, "beta_slow": 0.25}), out)
    header = read_header(out)
    assert header.get("mistral3.rope.scaling.yarn_beta_fast") == 8.0
    assert header.get("mistral3.rope.scaling.yarn_beta_slow") == 0.25
    return out


def logits(path: Path, **options: float | str) -> np.ndarray:
    from ggufrope.runtime.library import load

    exact = {"type_k": F32, "type_v": F32, "flash_attn": False, "n_gpu_layers": 0}
    model = load(path, n_ctx=256, n_batch=256, logits_all=True, n_threads=1, **exact, **options)
    try:
        model.eval(IDS)
        return model.scores[: len(IDS)].copy()
    finally:
        model.close()


def test_betas_of_the_file_are_used(runtime_dir: Path, yarn: Path) -> None:
    outcome = run_job(runtime_dir, yarn, [["eval", IDS, 0, 0]], n_ctx=256)
    assert not outcome.error, outcome.log[-2000:]
    np.testing.assert_allclose(logits(yarn), outcome.arrays[0].reshape(len(IDS), -1), atol=1e-4)
    usual = logits(yarn, yarn_beta_fast=32.0, yarn_beta_slow=1.0)
    assert np.abs(usual - logits(yarn)).max() > 1e-2  # what the caller asks for still wins


def test_a_missing_adapter_is_an_error(runtime_dir: Path, yarn: Path, tmp_path: Path) -> None:
    """Llama takes the null pointer for an adapter, and the first batch would end the process."""
    with pytest.raises(InputError, match=r"none\.gguf: llama\.cpp cannot load this LoRA adapter: .*; give a GGUF"):
        logits(yarn, lora_path=str(tmp_path / "none.gguf"))


def test_a_refused_state_says_why(runtime_dir: Path, yarn: Path, tmp_path: Path) -> None:
    from ggufrope.runtime.library import load

    other = tmp_path / "heads.gguf"
    write(plan(ModelFile.open(yarn), "ms-poe", {"first_layer": 0}), other)
    models = [load(path, n_ctx=256, n_threads=1, n_gpu_layers=0) for path in (yarn, other)]
    try:
        models[0].eval(IDS[:20])
        with pytest.raises(RuntimeError, match="the saved state was made with other RoPE frequencies"):
            models[1].load_state(models[0].save_state())
    finally:
        for model in models:
            model.close()

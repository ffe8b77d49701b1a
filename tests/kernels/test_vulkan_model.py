"""A small model on a Vulkan driver from end to end: distinct head factors against float64 and against the CPU build."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, entry
from llama_process import Outcome, run_job
from tiny_transformer import ARCHITECTURES, TinyModel

F16_K, Q8_0_K = 1, 8
RATIOS = np.array([[1.0, 1.0, 1.0], [1.25, 1.7, 1.1], [1.5, 1.2, 1.8]], dtype=np.float32)
TOKENS = np.random.default_rng(0).integers(0, 64, 100).tolist()
#: A prompt in two batches, then single tokens.
STEPS = [["eval", TOKENS[:60], 0], ["eval", TOKENS[60:96], 60], *(["eval", [TOKENS[i]], i] for i in range(96, 100))]
#: Of log-probabilities and logits. Upstream's Vulkan attention copies K and V to float16, from F32 caches too: without
#: factors these models are off by up to 3e-2 as well. The factors change log-probabilities by 2 to 5.
LIMIT = 5e-2

pytestmark = [pytest.mark.vulkan, pytest.mark.usefixtures("vulkan")]


def make(arch: str, head_dim: int = 32) -> TinyModel:
    return TinyModel(arch, n_head=6, n_head_kv=3, head_dim=head_dim)


def write(path: Path, model: TinyModel, ratios: np.ndarray | None = RATIOS) -> Path:
    """A model file; ``qwen3`` norms the heads of Q and K before they rotate."""
    rng = np.random.default_rng(1)
    norms = [f"blk.{i}.attn_{x}_norm.weight" for i in range(model.n_layer) for x in "qk"]
    norms = norms if model.arch == "qwen3" else []
    tensors = [(name, rng.uniform(0.5, 2, model.head_dim).astype(np.float32)) for name in norms]
    keys = [] if ratios is None else [
        entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "ms-poe"),
        entry("ggufrope.head_factors", ARR, ratios.ravel().tolist(), F32),
    ]  # fmt: skip
    path.write_bytes(model.file(keys, tensors))
    return path


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("GGML_VK_DISABLE_F16", "1")  # else products are float16 too


def logits(outcome: Outcome) -> np.ndarray:
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    return np.concatenate(outcome.arrays)


def log_probability(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def ropes(outcome: Outcome) -> set[str]:
    """Ops with a rope in them that the Vulkan backend says it ran for the model; the self-test ran before that line."""
    return set(re.findall(r"^(\w*ROPE\w*)\b", outcome.log.partition("ggufrope: method")[2], re.MULTILINE))


@pytest.mark.parametrize("arch", [*ARCHITECTURES, "qwen3"])
@pytest.mark.parametrize("flash", [0, 1])
def test_logits_are_the_cpu_builds(
    vulkan_dir: Path,
    runtime_dir: Path,
    norm_is_fused: bool,
    model_file: Path,
    arch: str,
    flash: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GGML_VK_PERF_LOGGER", "1")  # names the ops; it aborts in a shift of a quantized cache
    write(model_file, make(arch))
    here, there = (
        run_job(library, model_file, STEPS, flash_attn_type=flash, type_k=flash, type_v=flash)
        for library in (vulkan_dir, runtime_dir)
    )
    error = np.abs(log_probability(logits(here)) - log_probability(logits(there))).max()
    assert error < LIMIT
    normed = "RMS_NORM_MUL_" * (arch == "qwen3" and norm_is_fused)
    assert ropes(here) == {f"{normed}ROPE", f"{normed}ROPE_VIEW_SET_ROWS"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_equal_float64(vulkan_dir: Path, model_file: Path, arch: str) -> None:
    model = make(arch)
    outcome = run_job(vulkan_dir, write(model_file, model), STEPS)
    error = np.abs(logits(outcome) - model.logits(TOKENS, RATIOS)).max()
    assert error < LIMIT


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("type_k", [0, F16_K, Q8_0_K])
def test_shift_equals_recomputing(vulkan_dir: Path, model_file: Path, arch: str, type_k: int) -> None:
    """Quantized, a shift rounds once more: about sqrt(2) times the cache type's own error."""
    write(model_file, make(arch, head_dim=64))
    if type_k == Q8_0_K and arch == "phi3":
        pytest.skip("half-rotated heads in a quantized cache cannot be shifted")
    moved = [["eval", TOKENS[:80], 70, 0], ["shift", 0, 0, -1, -70], ["eval", TOKENS[80:], 80, 0]]
    direct = [["eval", TOKENS[:80], 0, 0], ["eval", TOKENS[80:], 80, 0]]
    exact, shifted, plain = (
        run_job(vulkan_dir, model_file, steps, type_k=type_)
        for steps, type_ in ((direct, 0), (moved, type_k), (direct, type_k))
    )
    assert not exact.error + shifted.error + plain.error, shifted.log[-2000:]
    a, b, c = (o.arrays[1] for o in (exact, shifted, plain))
    if type_k != Q8_0_K:
        np.testing.assert_allclose(b, c, atol=LIMIT)
    else:
        assert np.sqrt(np.mean((b - a) ** 2)) < 1.6 * np.sqrt(np.mean((c - a) ** 2))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_all_ones_are_the_plain_model_to_the_bit(vulkan_dir: Path, model_file: Path, arch: str) -> None:
    plain = logits(run_job(vulkan_dir, write(model_file, make(arch), None), STEPS))
    ones = logits(run_job(vulkan_dir, write(model_file, make(arch), np.ones((3, 3))), STEPS))
    np.testing.assert_array_equal(ones, plain)

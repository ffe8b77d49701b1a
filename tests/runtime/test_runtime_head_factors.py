"""The patched llama.cpp against a float64 forward pass, against itself, and against the unpatched build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, entry
from llama_process import Outcome, run_job
from tiny_transformer import ARCHITECTURES, TinyModel

TOKENS = np.random.default_rng(0).integers(0, 64, 100).tolist()
EVAL = ["eval", TOKENS, 0, 0]
RATIOS = np.array([[1.0, 1.0], [1.25, 1.7], [1.5, 1.2]], dtype=np.float32)

Run = Callable[..., Outcome]


def with_factors(ratios: np.ndarray, *more: bytes) -> list[bytes]:
    factors = entry("ggufrope.head_factors", ARR, np.ravel(ratios).tolist(), F32)
    return [entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "ms-poe"), factors, *more]


def length_row(factors: np.ndarray, scale: float, longest: int = 512) -> list[bytes]:
    return [
        entry("ggufrope.length_points", ARR, [longest], U32),
        entry("ggufrope.length_factors", ARR, factors.tolist(), F32),
        entry("ggufrope.length_attn_scale", ARR, [scale], F32),
    ]


@pytest.fixture
def run(runtime_dir: Path, tmp_path: Path) -> Run:
    def run(data: bytes, steps: list | None = None, library: Path = runtime_dir, **context: int) -> Outcome:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        outcome = run_job(library, path, steps or [EVAL], **context)
        assert not outcome.error, outcome.last_error or outcome.log[-2000:]
        return outcome

    return run


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_distinct_ratios_equal_the_reference(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    outcome = run(model.file(with_factors(RATIOS)))
    np.testing.assert_allclose(outcome.arrays[0], model.logits(TOKENS, RATIOS), atol=1e-4)
    assert np.abs(outcome.arrays[0] - model.logits(TOKENS)).max() > 1
    assert "ggufrope: method ms-poe active: 4 of 6 KV heads on 2 of 3 layers, ratios 1.200-1.700" in outcome.log


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_all_ones_are_the_plain_model_to_the_bit(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    plain = run(model.file()).arrays[0]
    ones = run(model.file(with_factors(np.ones((3, 2))))).arrays[0]
    np.testing.assert_array_equal(ones, plain)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("ratio", [2.0, 1.5])
def test_uniform_ratio_is_linear_scaling(run: Run, arch: str, ratio: float) -> None:
    model = TinyModel(arch)
    linear = [entry(f"{arch}.rope.scaling.type", STR, "linear"), entry(f"{arch}.rope.scaling.factor", F32, ratio)]
    uniform = run(model.file(with_factors(np.full((3, 2), ratio)))).arrays[0]
    np.testing.assert_allclose(uniform, run(model.file(linear)).arrays[0], atol=1e-4)


def test_ratios_multiply_into_the_models_own_factors(run: Run) -> None:
    model = TinyModel("phi3", n_ctx=512)
    short, long = np.linspace(1, 2, 8, dtype=np.float32), np.linspace(1, 9, 8, dtype=np.float32)
    tensors = [("rope_factors_long.weight", long), ("rope_factors_short.weight", short)]
    original = entry("phi3.rope.scaling.original_context_length", U32, 256)
    data = model.file(with_factors(RATIOS, original), tensors)
    for n_ctx, factors in ((256, short), (512, long)):
        logits = run(data, n_ctx=n_ctx).arrays[0]
        np.testing.assert_allclose(logits, model.logits(TOKENS, RATIOS, factors), atol=1e-4)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_length_row_with_attention_scale(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    factors = np.linspace(1, 4, model.n_rot // 2, dtype=np.float32)
    outcome = run(model.file(with_factors(RATIOS, *length_row(factors, 1.125))))
    np.testing.assert_allclose(outcome.arrays[0], model.logits(TOKENS, RATIOS, factors, 1.125), atol=1e-4)
    assert "one row of factors for lengths to 512, attention scale 1.1250" in outcome.log


def test_chunks_and_decode_steps_equal_one_prefill(run: Run) -> None:
    data = TinyModel("llama").file(with_factors(RATIOS))
    whole = run(data).arrays[0]
    chunked = run(data, n_ubatch=32).arrays[0]
    stepwise = run(data, [["eval", TOKENS[:90], 0, 0], *(["eval", [TOKENS[i]], i, 0] for i in range(90, 100))])
    np.testing.assert_allclose(chunked, whole, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(stepwise.arrays), whole, atol=1e-4)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_unpatched_build_sees_the_plain_model(run: Run, stock_dir: Path, arch: str) -> None:
    model = TinyModel(arch)
    plain = run(model.file()).arrays[0]
    np.testing.assert_array_equal(run(model.file(), library=stock_dir).arrays[0], plain)
    np.testing.assert_array_equal(run(model.file(with_factors(RATIOS)), library=stock_dir).arrays[0], plain)


def test_context_length_raises_the_trained_context(run: Run) -> None:
    longer = entry("ggufrope.context_length", U32, 4096)
    outcome = run(TinyModel("llama").file(with_factors(RATIOS, longer)))
    assert "n_ctx_train = 4096 (was 256)" in outcome.log


def test_factors_can_be_set_and_read(run: Run) -> None:
    model, ones = TinyModel("llama"), [1.0] * 6
    ratios = RATIOS.ravel().tolist()
    steps = [["get"], ["set", ratios], ["get"], EVAL, ["set", ones], ["clear"], ["set", ones], EVAL]
    before, set_ok, after, with_ratios, refused, allowed, plain = run(model.file(), steps).arrays
    assert before.tolist() == ones
    assert [set_ok[0], refused[0], allowed[0]] == [1, 0, 1]
    np.testing.assert_array_equal(after, RATIOS.ravel())
    np.testing.assert_allclose(with_ratios, model.logits(TOKENS, RATIOS), atol=1e-4)
    np.testing.assert_array_equal(plain, run(model.file()).arrays[0])


@pytest.mark.parametrize(
    ("factors", "reason"),
    [([1.0] * 5, "expected 6 values"), ([1.0] * 5 + [-1.0], "found -1 at index 5"), ([0.0] * 6, "found 0 at index 0")],
)
def test_bad_factors_are_refused_and_leave_the_old_ones(run: Run, factors: list[float], reason: str) -> None:
    steps = [["set", factors], ["why"], ["get"]]
    outcome = run(TinyModel("llama").file(with_factors(RATIOS)), steps)
    done, why, kept = outcome.arrays
    assert done[0] == 0
    assert reason in why[0]
    np.testing.assert_array_equal(kept, RATIOS.ravel())
    assert outcome.last_error == ""  # the last call succeeded

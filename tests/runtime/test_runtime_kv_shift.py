"""Shifting cached keys equals computing them at the shifted positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf_builder import F32, STR, U32, entry
from llama_process import run_job
from test_runtime_head_factors import RATIOS, length_row, with_factors
from tiny_cache import LengthTable, Session
from tiny_transformer import ARCHITECTURES, TinyModel

F32_K, F16_K, Q4_0_K, Q8_0_K, BF16_K = 0, 1, 2, 8, 30
TOKENS = np.random.default_rng(1).integers(0, 64, 120).tolist()


def shifted_and_direct(library: Path, path: Path, **context: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of 20 tokens after 100 cached ones: cached at 70 and shifted to 0, or cached at 0."""
    moved = run_job(
        library,
        path,
        [["eval", TOKENS[:100], 70, 0], ["shift", 0, 0, -1, -70], ["eval", TOKENS[100:], 100, 0]],
        **context,
    )
    direct = run_job(library, path, [["eval", TOKENS[:100], 0, 0], ["eval", TOKENS[100:], 100, 0]], **context)
    assert not moved.error + direct.error, moved.log[-2000:]
    return moved.arrays[1], direct.arrays[1]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x * x)))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_shift_equals_recomputing(runtime_dir: Path, tmp_path: Path, arch: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel(arch).file(with_factors(RATIOS)))
    moved, direct = shifted_and_direct(runtime_dir, path)
    np.testing.assert_allclose(moved, direct, atol=2e-4)


@pytest.mark.parametrize("head_dim", [32, 64])
@pytest.mark.parametrize("type_k", [F16_K, BF16_K, Q8_0_K, Q4_0_K])
def test_shift_of_other_cache_types(runtime_dir: Path, tmp_path: Path, type_k: int, head_dim: int) -> None:
    """A shift rounds once more: about sqrt(2) times the cache type's own error. Quantized heads of 64 are also rotated
    by a Hadamard matrix, which the shift must undo and redo; those of 32 are not."""
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel("qwen2", head_dim=head_dim).file(with_factors(RATIOS)))
    exact = shifted_and_direct(runtime_dir, path)[1]
    moved, direct = shifted_and_direct(runtime_dir, path, type_k=type_k)
    assert rms(moved - exact) < 1.6 * rms(direct - exact)


def test_shift_keeps_the_attention_scale(runtime_dir: Path, tmp_path: Path) -> None:
    """Cached keys carry the scale already: YaRN's and that of a length row must not be applied again."""
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    yarn = [entry("llama.rope.scaling.type", STR, "yarn"), entry("llama.rope.scaling.factor", F32, 4.0)]
    yarn.append(entry("llama.rope.scaling.original_context_length", U32, 64))
    row = length_row(np.linspace(1, 4, 16, dtype=np.float32), 1.25)
    for extra in (yarn, row):
        path.write_bytes(model.file(with_factors(RATIOS, *extra)))
        moved, direct = shifted_and_direct(runtime_dir, path)
        np.testing.assert_allclose(moved, direct, atol=2e-4)


def test_impossible_shift_is_announced(runtime_dir: Path, tmp_path: Path) -> None:
    """Half-rotated heads in a quantized cache cannot be requantized: programs are told that shifting is off."""
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel("phi3", head_dim=64).file(with_factors(RATIOS)))
    outcome = run_job(runtime_dir, path, [["eval", TOKENS, 70, 0], ["shift", 0, 0, -1, -70]], type_k=Q8_0_K)
    assert outcome.error == "step: cannot shift"


@pytest.mark.parametrize(
    ("arch", "type_k"), [*((arch, F16_K) for arch in ARCHITECTURES), ("llama", F32_K), ("qwen2", Q8_0_K)]
)
def test_without_keys_a_shift_gives_stocks_bits(
    runtime_dir: Path, stock_dir: Path, tmp_path: Path, arch: str, type_k: int
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel(arch, head_dim=64).file())
    ours, stocks = (shifted_and_direct(library, path, type_k=type_k)[0] for library in (runtime_dir, stock_dir))
    np.testing.assert_array_equal(ours, stocks)


@pytest.mark.parametrize("fault", ["attention scale", "layers without RoPE"])
def test_without_keys_faults_of_stock_are_mended(
    runtime_dir: Path, stock_dir: Path, tmp_path: Path, fault: str
) -> None:
    """``patches/README.md`` names what differs without keys; every fourth layer of ``smollm3`` does not rotate."""
    path = tmp_path / "model.gguf"
    yarn = [entry("llama.rope.scaling.type", STR, "yarn"), entry("llama.rope.scaling.factor", F32, 4.0)]
    path.write_bytes(TinyModel("llama").file(yarn) if "scale" in fault else TinyModel("smollm3", n_layer=4).file())
    (moved, direct), (stock_moved, stock_direct) = (shifted_and_direct(x, path) for x in (runtime_dir, stock_dir))
    np.testing.assert_array_equal(direct, stock_direct)
    np.testing.assert_allclose(moved, direct, atol=2e-4)
    assert np.abs(stock_moved - direct).max() > 0.1


@pytest.mark.parametrize("ratios", [None, RATIOS])
def test_divided_positions_turn_keys_the_right_way(
    runtime_dir: Path, stock_dir: Path, tmp_path: Path, ratios: np.ndarray | None
) -> None:
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    path.write_bytes(model.file([] if ratios is None else with_factors(ratios)))
    session = Session(model, LengthTable([512], np.ones((1, model.n_rot // 2)), np.ones(1)), ratios)
    session.step(TOKENS[:80])
    session.positions = session.positions // 2
    expected = session.step(TOKENS[80:100])
    steps = [["eval", TOKENS[:80], 0, 0], ["divide", 0, 0, 80, 2], ["eval", TOKENS[80:100], 40, 0]]
    ours, stocks = (run_job(library, path, steps).arrays[1] for library in (runtime_dir, stock_dir))
    np.testing.assert_allclose(ours, expected, atol=2e-4)
    assert np.abs(stocks - expected).max() > 1

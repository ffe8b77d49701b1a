"""``ggufrope.length_layers``: a row for the layers that the file names, against a float64 forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, BOOL, F32, STR, U32, entry
from llama_process import run_job
from test_runtime_head_factors import TOKENS, length_row
from test_runtime_kv_shift import shifted_and_direct
from tiny_transformer import ARCHITECTURES, TinyModel

HEAD, TAIL = ["eval", TOKENS[:90], 0, 0], ["eval", TOKENS[90:], 90, 0]
NAMED = (True, False, True)


def row_for(model: TinyModel, layers: tuple[bool, ...], factor: float = 2.0, scale: float = 1.0) -> list[bytes]:
    row = np.full(model.n_rot // 2, factor, dtype=np.float32)
    named = [entry("ggufrope.length_layers", ARR, layers, BOOL)]
    start = [entry("ggufrope.version", U32, 2), entry("ggufrope.method", STR, "table")]
    return [*start, *length_row(row, scale), *named]


def ratios(layers: tuple[bool, ...]) -> np.ndarray:
    """The same as a divisor of both KV heads."""
    return np.array([[2.0, 2.0] if named else [1.0, 1.0] for named in layers])


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("layers", [NAMED, (False, True, False), (True,) * 3])
def test_the_named_layers_take_the_row(runtime_dir: Path, tmp_path: Path, arch: str, layers: tuple[bool, ...]) -> None:
    model, path = TinyModel(arch), tmp_path / "model.gguf"
    path.write_bytes(model.file(row_for(model, layers)))
    outcome = run_job(runtime_dir, path, [["eval", TOKENS, 0, 0]])
    assert not outcome.error, outcome.last_error
    np.testing.assert_allclose(outcome.arrays[0], model.logits(TOKENS, ratios(layers)), atol=1e-4)
    assert np.abs(outcome.arrays[0] - model.logits(TOKENS)).max() > 0.1


def test_head_factors_multiply_in_named_layers_and_in_others(runtime_dir: Path, tmp_path: Path) -> None:
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    own = np.array([[1.5, 1.2], [1.3, 1.0], [1.0, 1.1]])
    heads = entry("ggufrope.head_factors", ARR, own.ravel().tolist(), F32)
    path.write_bytes(model.file([*row_for(model, NAMED), heads]))
    found = run_job(runtime_dir, path, [["eval", TOKENS, 0, 0]]).arrays[0]
    np.testing.assert_allclose(found, model.logits(TOKENS, own * ratios(NAMED)), atol=1e-4)


def test_the_scale_acts_in_named_layers_only(runtime_dir: Path, tmp_path: Path) -> None:
    """Against scaled projections: cos and sin times m are q and k times m."""
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    path.write_bytes(model.file(row_for(model, NAMED, 1.0, 1.25)))
    found = run_job(runtime_dir, path, [["eval", TOKENS, 0, 0]]).arrays[0]
    for layer in (0, 2):
        for name in ("attn_q", "attn_k"):
            model.weights[f"blk.{layer}.{name}.weight"] *= 1.25
    np.testing.assert_allclose(found, model.logits(TOKENS), atol=1e-4)


def test_shift_equals_recomputing(runtime_dir: Path, tmp_path: Path) -> None:
    model, path = TinyModel("qwen2"), tmp_path / "model.gguf"
    path.write_bytes(model.file(row_for(model, NAMED, 2.0, 1.25)))
    moved, direct = shifted_and_direct(runtime_dir, path)
    np.testing.assert_allclose(moved, direct, atol=2e-4)


@pytest.mark.parametrize("what", ["", "_seq"])
def test_state_returns_to_the_same_layers_only(runtime_dir: Path, tmp_path: Path, what: str) -> None:
    model, state, path = TinyModel("llama"), str(tmp_path / "state"), tmp_path / "model.gguf"
    variants = {layers: row_for(model, layers) for layers in (NAMED, (True,) * 3)}
    for saved, saved_keys in variants.items():
        path.write_bytes(model.file(saved_keys))
        direct = run_job(runtime_dir, path, [HEAD, [f"save{what}", state], TAIL])
        for loaded, loaded_keys in variants.items():
            path.write_bytes(model.file(loaded_keys))
            outcome = run_job(runtime_dir, path, [[f"load{what}", state], TAIL])
            assert outcome.arrays[0][0] == (saved == loaded)
            if saved == loaded:
                np.testing.assert_array_equal(outcome.arrays[1], direct.arrays[2])


def test_saved_model_keeps_its_layers(runtime_dir: Path, tmp_path: Path) -> None:
    model, path, copy = TinyModel("llama"), tmp_path / "model.gguf", tmp_path / "copy.gguf"
    path.write_bytes(model.file(row_for(model, NAMED)))
    first = run_job(runtime_dir, path, [["eval", TOKENS, 0, 0], ["save_model", str(copy)]])
    second = run_job(runtime_dir, copy, [["eval", TOKENS, 0, 0]])
    np.testing.assert_array_equal(second.arrays[0], first.arrays[0])


def test_stock_runs_the_plain_model(runtime_dir: Path, stock_dir: Path, tmp_path: Path) -> None:
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    path.write_bytes(model.file(row_for(model, NAMED)))
    found = run_job(stock_dir, path, [["eval", TOKENS, 0, 0]]).arrays[0]
    path.write_bytes(model.file())
    np.testing.assert_array_equal(found, run_job(runtime_dir, path, [["eval", TOKENS, 0, 0]]).arrays[0])

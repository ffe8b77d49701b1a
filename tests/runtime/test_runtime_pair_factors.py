"""A factor for each KV head and pair on the patched llama.cpp, against a float64 forward pass and against itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, entry
from llama_process import Outcome, run_job
from test_runtime_head_factors import EVAL, RATIOS, TOKENS, length_row, with_factors
from test_runtime_kv_shift import rms, shifted_and_direct
from test_runtime_length import assert_close, expected_of, steps_of
from tiny_cache import LengthTable, Session
from tiny_transformer import ARCHITECTURES, TinyModel

Run = Callable[..., Outcome]


def pair_factors(model: TinyModel, seed: int = 0) -> np.ndarray:
    """Random ones ``[layer][KV head][pair]``, 0.7 to 2; the first layer has none of its own."""
    factors = np.random.default_rng(seed).uniform(0.7, 2.0, (model.n_layer, model.n_head_kv, model.n_rot // 2))
    factors[0] = 1.0
    return factors.astype(np.float32)


def with_pairs(factors: np.ndarray, *more: bytes) -> list[bytes]:
    key = entry("ggufrope.pair_factors", ARR, np.ravel(factors).tolist(), F32)
    return [entry("ggufrope.version", U32, 3), entry("ggufrope.method", STR, "ms-poe"), key, *more]


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
def test_random_factors_equal_the_reference(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    factors = pair_factors(model)
    outcome = run(model.file(with_pairs(factors)))
    np.testing.assert_allclose(outcome.arrays[0], model.logits(TOKENS, factors), atol=1e-4)
    assert np.abs(outcome.arrays[0] - model.logits(TOKENS)).max() > 1
    assert "ggufrope: method ms-poe active: 4 of 6 KV heads on 2 of 3 layers, ratios 0.7" in outcome.log
    assert ", by pair" in outcome.log


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_equal_pairs_are_head_factors_to_the_bit(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    constant = np.repeat(RATIOS[:, :, None], model.n_rot // 2, axis=2)
    by_pair, by_head = (run(model.file(keys)).arrays[0] for keys in (with_pairs(constant), with_factors(RATIOS)))
    np.testing.assert_array_equal(by_pair, by_head)


def test_all_ones_are_the_plain_model_to_the_bit(run: Run) -> None:
    model = TinyModel("llama")
    ones = run(model.file(with_pairs(np.ones((3, 2, 16)))))
    np.testing.assert_array_equal(ones.arrays[0], run(model.file()).arrays[0])


def test_heads_that_agree_are_one_row_of_pairs(run: Run) -> None:
    """Then a length row with the same factors says the same."""
    model = TinyModel("qwen2")
    row = np.linspace(1, 3, 16, dtype=np.float32)
    alike = run(model.file(with_pairs(np.broadcast_to(row, (3, 2, 16))))).arrays[0]
    keys = [entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "yarn"), *length_row(row, 1.0)]
    np.testing.assert_array_equal(alike, run(model.file(keys)).arrays[0])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_unpatched_build_sees_the_plain_model(run: Run, stock_dir: Path, arch: str) -> None:
    model = TinyModel(arch)
    plain = run(model.file()).arrays[0]
    keys = with_pairs(pair_factors(model))
    np.testing.assert_array_equal(run(model.file(keys), library=stock_dir).arrays[0], plain)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_shift_equals_recomputing(runtime_dir: Path, tmp_path: Path, arch: str) -> None:
    model, path = TinyModel(arch), tmp_path / "model.gguf"
    path.write_bytes(model.file(with_pairs(pair_factors(model))))
    moved, direct = shifted_and_direct(runtime_dir, path)
    np.testing.assert_allclose(moved, direct, atol=2e-4)


def test_shift_of_a_quantized_cache(runtime_dir: Path, tmp_path: Path) -> None:
    model, path = TinyModel("qwen2", head_dim=64), tmp_path / "model.gguf"
    path.write_bytes(model.file(with_pairs(pair_factors(model))))
    exact = shifted_and_direct(runtime_dir, path)[1]
    moved, direct = shifted_and_direct(runtime_dir, path, type_k=8)
    assert rms(moved - exact) < 1.6 * rms(direct - exact)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_rows_by_length_rotate_cached_keys_anew(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    factors, table = pair_factors(model), LengthTable.growing(model.n_rot, [64, 96, 128, 160, 512])
    keys = with_pairs(
        factors,
        entry("ggufrope.length_points", ARR, table.points, U32),
        entry("ggufrope.length_factors", ARR, table.factors.ravel().tolist(), F32),
        entry("ggufrope.length_attn_scale", ARR, table.scales.tolist(), F32),
    )
    sizes = [50, *[1] * 60]
    found = run(model.file(keys), steps_of(sizes)).arrays
    for got, expected in zip(found, expected_of(Session(model, table, factors), sizes), strict=True):
        assert_close(got, expected)


def test_states_return_to_the_same_pairs_only(runtime_dir: Path, tmp_path: Path) -> None:
    model, state, path = TinyModel("llama"), str(tmp_path / "state"), tmp_path / "model.gguf"
    one, other = pair_factors(model), pair_factors(model)
    other[2, 1, 7] *= 1.01
    for what in ("", "_seq"):
        path.write_bytes(model.file(with_pairs(one)))
        assert not run_job(runtime_dir, path, [["eval", TOKENS[:90], 0, 0], [f"save{what}", state]]).error
        assert run_job(runtime_dir, path, [[f"load{what}", state]]).arrays[0][0] == 1
        path.write_bytes(model.file(with_pairs(other)))
        assert run_job(runtime_dir, path, [[f"load{what}", state]]).arrays[0][0] == 0


def test_saved_model_keeps_its_keys(runtime_dir: Path, tmp_path: Path) -> None:
    model, path, copy = TinyModel("llama"), tmp_path / "model.gguf", tmp_path / "copy.gguf"
    path.write_bytes(model.file(with_pairs(pair_factors(model))))
    first = run_job(runtime_dir, path, [EVAL, ["save_model", str(copy)]])
    second = run_job(runtime_dir, copy, [EVAL])
    np.testing.assert_array_equal(second.arrays[0], first.arrays[0])


def test_factors_can_be_set_and_read(run: Run) -> None:
    """On a plain file; head factors take their place, and they that of head factors."""
    model = TinyModel("llama")
    factors, constant = pair_factors(model), np.repeat(RATIOS[:, :, None], 16, axis=2)
    steps = [
        ["get_pairs"], ["set_pairs", factors.ravel().tolist()], ["get_pairs"], EVAL,
        ["set_pairs", np.ones(96).tolist()], ["clear"], ["set", RATIOS.ravel().tolist()], ["get_pairs"], EVAL,
    ]  # fmt: skip
    before, ok, after, with_pairs_set, refused, set_heads, of_heads, with_heads = run(model.file(), steps).arrays
    np.testing.assert_array_equal(before, np.ones(96))
    assert [ok[0], refused[0], set_heads[0]] == [1, 0, 1]
    np.testing.assert_array_equal(after, factors.ravel())
    np.testing.assert_allclose(with_pairs_set, model.logits(TOKENS, factors), atol=1e-4)
    np.testing.assert_array_equal(of_heads, constant.ravel())
    np.testing.assert_allclose(with_heads, model.logits(TOKENS, RATIOS), atol=1e-4)


@pytest.mark.parametrize(
    ("factors", "reason"),
    [([1.0] * 95, "expected 96 values"), ([1.0] * 95 + [-1.0], "found -1 at index 95"), ([0.0] * 96, "found 0 at")],
)
def test_bad_factors_are_refused_and_leave_the_old_ones(run: Run, factors: list[float], reason: str) -> None:
    model = TinyModel("llama")
    given = pair_factors(model)
    outcome = run(model.file(with_pairs(given)), [["get_pairs"], ["set_pairs", factors]])
    assert outcome.arrays[1][0] == 0
    assert reason in outcome.last_error
    again = run(model.file(with_pairs(given)), [["set_pairs", factors], ["get_pairs"]])
    np.testing.assert_array_equal(again.arrays[1], given.ravel())


def test_heads_of_which_pairs_differ_have_no_head_factors(runtime_dir: Path, tmp_path: Path) -> None:
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    path.write_bytes(model.file(with_pairs(pair_factors(model))))
    outcome = run_job(runtime_dir, path, [["get"]])
    assert outcome.error.startswith("step")
    assert "differ by pair here; call ggufrope_get_pair_factors()" in outcome.last_error


def test_heads_are_scored_whatever_their_pairs(run: Run) -> None:
    """Scores are of Q and K before the rotation: in the first layer they are those of the plain model."""
    model = TinyModel("llama")
    steps = [["capture", True], EVAL, ["scores"]]
    plain = run(model.file(), steps).arrays
    found = run(model.file(with_pairs(pair_factors(model))), steps).arrays
    np.testing.assert_array_equal(found[-1][:4], plain[-1][:4])
    np.testing.assert_allclose(found[1], model.logits(TOKENS, pair_factors(model)), atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([entry("ggufrope.version", U32, 2)], "'ggufrope.version': expected 3 beside 'ggufrope.pair_factors', found 2"),
        ([entry("ggufrope.head_order", STR, "static")], "'ggufrope.head_order': expected no such key beside"),
        ([entry("ggufrope.head_factors", ARR, [1.5] * 6, F32)], "'ggufrope.head_factors': expected no such key beside"),
    ],
)
def test_what_may_not_stand_beside_it(runtime_dir: Path, tmp_path: Path, keys: list[bytes], reason: str) -> None:
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    others = with_pairs(pair_factors(model))[1 if b"ggufrope.version" in keys[0] else 0 :]
    path.write_bytes(model.file([*others, *keys]))
    assert reason in run_job(runtime_dir, path, [EVAL]).last_error


@pytest.mark.parametrize(
    ("values", "reason"),
    [([1.5] * 95, "expected 96 f32 values .*, found 95"), ([1.5] * 95 + [float("nan")], "found -?nan at index 95")],
)
def test_malformed_values_are_named(runtime_dir: Path, tmp_path: Path, values: list[float], reason: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(TinyModel("llama").file(with_pairs(np.array(values))))
    assert re.search(f"'ggufrope.pair_factors': .*{reason}", run_job(runtime_dir, path, [EVAL]).last_error)

"""Saved states know their factors; saved models keep their keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf_builder import U32, entry
from llama_process import run_job
from test_runtime_head_factors import RATIOS, TOKENS, with_factors
from tiny_transformer import TinyModel

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.gguf import read_header

HEAD, TAIL = ["eval", TOKENS[:90], 0, 0], ["eval", TOKENS[90:], 90, 0]


@pytest.mark.parametrize("what", ["", "_seq"])
def test_state_returns_to_the_same_factors_only(runtime_dir: Path, tmp_path: Path, what: str) -> None:
    model, state, path = TinyModel("llama"), str(tmp_path / "state"), tmp_path / "model.gguf"
    save, load = [f"save{what}", state], [f"load{what}", state]
    variants = {"plain": [], "ratios": with_factors(RATIOS), "others": with_factors(RATIOS[::-1])}
    for saved, saved_keys in variants.items():
        path.write_bytes(model.file(saved_keys))
        direct = run_job(runtime_dir, path, [HEAD, save, TAIL])
        assert not direct.error
        for loaded, loaded_keys in variants.items():
            path.write_bytes(model.file(loaded_keys))
            outcome = run_job(runtime_dir, path, [load, TAIL])
            assert outcome.arrays[0][0] == (saved == loaded), f"{saved} into {loaded}"
            if saved == loaded:
                np.testing.assert_array_equal(outcome.arrays[1], direct.arrays[2])


def test_state_of_a_plain_model_is_the_unpatched_one(runtime_dir: Path, stock_dir: Path, tmp_path: Path) -> None:
    path, states = tmp_path / "model.gguf", [tmp_path / "patched", tmp_path / "stock"]
    path.write_bytes(TinyModel("llama").file())
    for library, state in zip((runtime_dir, stock_dir), states, strict=True):
        assert not run_job(library, path, [HEAD, ["save", str(state)]]).error
    assert states[0].read_bytes() == states[1].read_bytes()


BASE = "llama.rope.freq_base"


@pytest.mark.parametrize(
    "overrides",
    [
        {BASE: 10000.0},
        {BASE: 5},  # the rest is ignored by llama.cpp, which reads the keys as other types
        {BASE: "20000"},
        {"llama.rope.dimension_count": 8.0},
        {"llama.rope.dimension_sections": 8, "llama.attention.sliding_window": True},
    ],
)
def test_override_that_changes_nothing_leaves_states_alone(
    runtime_dir: Path, stock_dir: Path, tmp_path: Path, overrides: dict
) -> None:
    path, states = tmp_path / "model.gguf", [str(tmp_path / name) for name in ("plain", "same")]
    path.write_bytes(TinyModel("llama").file())
    plain = run_job(stock_dir, path, [HEAD, ["save_seq", states[0]], TAIL])
    same = run_job(runtime_dir, path, [["load_seq", states[0]], TAIL, ["save_seq", states[1]]], overrides=overrides)
    assert same.arrays[0][0] == 1.0, same.last_error
    np.testing.assert_array_equal(same.arrays[1], plain.arrays[2])
    assert run_job(stock_dir, path, [["load_seq", states[1]]]).arrays[0][0] == 1.0


def test_override_that_changes_the_ropes_marks_states(runtime_dir: Path, tmp_path: Path) -> None:
    path, state = tmp_path / "model.gguf", str(tmp_path / "state")
    path.write_bytes(TinyModel("llama").file())
    assert not run_job(runtime_dir, path, [HEAD, ["save_seq", state]]).error
    for overrides in ({BASE: 20000.0}, {"llama.rope.freq_base_swa": 20000.0}):
        outcome = run_job(runtime_dir, path, [["load_seq", state]], overrides=overrides)
        assert outcome.arrays[0][0] == 0.0
        assert "other RoPE frequencies" in outcome.last_error


def test_saved_model_keeps_its_keys(runtime_dir: Path, tmp_path: Path) -> None:
    path, copy = tmp_path / "model.gguf", tmp_path / "copy.gguf"
    path.write_bytes(TinyModel("llama").file(with_factors(RATIOS, entry("ggufrope.context_length", U32, 4096))))
    first = run_job(runtime_dir, path, [["eval", TOKENS, 0, 0], ["save_model", str(copy)]])
    second = run_job(runtime_dir, copy, [["eval", TOKENS, 0, 0], ["get"]])
    np.testing.assert_array_equal(second.arrays[0], first.arrays[0])
    np.testing.assert_array_equal(second.arrays[1], RATIOS.ravel())
    assert "n_ctx_train = 4096 (was 256)" in second.log


SENTINEL = [("ggufrope.requires_patched_runtime", np.ones(1, np.float32))]


@pytest.mark.parametrize("tensors", [[], SENTINEL])
def test_saved_model_keeps_what_stops_an_unpatched_runtime(
    runtime_dir: Path, stock_dir: Path, tmp_path: Path, tensors: list
) -> None:
    """Saved twice: what was saved is loaded with it, too."""
    path, copies = tmp_path / "model.gguf", [tmp_path / "copy.gguf", tmp_path / "again.gguf"]
    path.write_bytes(TinyModel("llama").file(with_factors(RATIOS), tensors))
    saved, logits = path, []
    for copy in copies:
        outcome = run_job(runtime_dir, saved, [["eval", TOKENS, 0, 0], ["save_model", str(copy)]])
        assert not outcome.error, outcome.last_error
        logits.append(outcome.arrays[0])
        saved = copy
    np.testing.assert_array_equal(logits[0], logits[1])
    for file in (path, *copies):
        names = {tensor.name for tensor in read_header(file).tensors}
        assert ("ggufrope.requires_patched_runtime" in names) == bool(tensors)
        assert (run_job(stock_dir, file, []).error == "model") == bool(tensors)


@pytest.mark.parametrize("method", ["none", "ntk", "linear", "yarn", "llama3", "longrope", "ms-poe", "ms-poe+yarn"])
def test_saved_model_rotates_as_it_did(runtime_dir: Path, tmp_path: Path, method: str) -> None:
    """So do its states: they go from one file to the other."""
    path, copy, state = tmp_path / "model.gguf", tmp_path / "copy.gguf", str(tmp_path / "state")
    path.write_bytes(TinyModel("llama").file())
    pairs = TinyModel("llama").n_rot // 2
    params: dict = {} if method in {"none", "ms-poe"} else {"factor": 4.0}
    if method == "longrope":
        params |= {
            "short_factor": [1.0 + i / pairs for i in range(pairs)],
            "long_factor": [1.0 + i for i in range(pairs)],
        }
    made = path.with_name("made.gguf")
    carry_out(ConvertRequest(path, made, method, params, require_patched=True))
    first = run_job(runtime_dir, made, [HEAD, ["save_seq", state], TAIL, ["save_model", str(copy)]])
    loaded, second = run_job(runtime_dir, copy, [["load_seq", state], TAIL]).arrays
    assert loaded == 1
    np.testing.assert_array_equal(second, first.arrays[-1])

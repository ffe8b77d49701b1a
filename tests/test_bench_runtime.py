"""What scripts/bench/bench-runtime is made of: its models run, and its ratios are what they are called."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from bench_runtime.model import TYPES, Shape, write_model
from bench_runtime.turns import Build, Times, Turns, model_command, rope_command
from llama_process import run_job

TINY = Shape(n_head_kv=2, n_head=4, n_embd=128, n_layer=2, n_ff=256, n_vocab=320, n_ctx=64)


@pytest.mark.parametrize("kind", TYPES)
def test_models_run_and_the_ratios_are_active(runtime_dir: Path, tmp_path: Path, kind: str) -> None:
    path, logits = tmp_path / "model.gguf", {}
    for ms_poe in (False, True):
        write_model(path, TINY, kind, ms_poe=ms_poe)
        outcome = run_job(runtime_dir, path, [["eval", [1, 2, 3, 4], 0, 0]], n_ctx=64)
        assert not outcome.error, outcome.log[-2000:]
        assert ("4 of 4 KV heads" in outcome.log) == ms_poe
        logits[ms_poe] = outcome.arrays[0]
    assert np.isfinite(logits[True]).all()
    assert not np.array_equal(logits[True], logits[False])


@pytest.mark.skipif(sys.platform == "win32", reason="the benchmark runs where os.getloadavg does")
def test_processes_take_turns(runtime_dir: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.gguf", TINY, "f16", ms_poe=True)
    build = Build("patched", runtime_dir)
    model = model_command(build, tmp_path / "model.gguf", threads=1, n_ctx=64, clock="wall")
    scored = model_command(build, tmp_path / "model.gguf", threads=1, n_ctx=64, clock="wall", scored=True, reuse=False)
    for commands, request in (({"a": model, "b": scored}, "prompt 16"), ({"a": rope_command(build)}, "4 4 32 2 10")):
        with Turns(commands) as turns:
            times = turns.run(request, 3)
        assert {name: len(seconds) for name, seconds in times.seconds.items()} == dict.fromkeys(commands, 3)
        assert all(second > 0 for seconds in times.seconds.values() for second in seconds)


def test_a_ratio_compares_the_same_rounds() -> None:
    """Twice as fast in each round, however the machine's own speed changes between them."""
    times = Times({"stock": [2.0, 20.0, 200.0], "other": [1.0, 10.0, 100.0]})
    assert times.ratio("stock", "other") == "2.000 (2.000-2.000)"
    assert times.slowdown("stock", "other") == "0.500 (0.500-0.500)"
    more = times + Times({"stock": [1.0, 1.0], "other": [1.0, 1.0]})
    assert more.seconds["other"] == [1.0, 10.0, 100.0, 1.0, 1.0]
    assert (more.median("stock"), more.fastest("stock")) == (2.0, 1.0)

"""Whole runs of the command line, engine and runtime as they are: the demo model with wrong factors in its file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from demo_model.text import sample_text

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.methods.table_file import read_table, write_table
from ggufrope.modelfile.model_file import ModelFile

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
pytestmark = pytest.mark.slow

#: Factors that are wrong by -33% to +48%: of 16 pairs, the same in all layers.
_SIGNS = np.random.default_rng(3)
WRONG = 0.4 * _SIGNS.choice([-1, 1], 16) * _SIGNS.uniform(0.5, 1, 16)


@pytest.fixture(scope="module")
def files(demo_file, tmp_path_factory):
    pytest.importorskip("torch", reason="pip install 'ggufrope[torch]'")
    folder = tmp_path_factory.mktemp("tuned")
    right, wrong, text = folder / "right.gguf", folder / "wrong.gguf", folder / "text.txt"
    text.write_text(sample_text("tune", 48, 500))
    shutil.copy(demo_file("none"), right)
    write_table(folder / "wrong.npz", np.exp(WRONG), ["pair"])
    carry_out(ConvertRequest(right, wrong, "table", {"factor_table": read_table(folder / "wrong.npz")}))
    return folder


def _command(*words):
    return [sys.executable, "-m", "ggufrope", *map(str, words)]


def _environment():
    return {**os.environ, "GGUFROPE_BACKEND": "cpu", "OMP_NUM_THREADS": "1"}


def _tune(files, name, out, steps):
    return _command(
        "tune", files / name, "--for", "ppl", "--length", 256, "--text", files / "text.txt", "--space", "pairs",
        "--steps", steps, "--select-every", 4, "--select-texts", 4, "--report-texts", 6, "--also", "niah",
        "--wording", DEMO / "wording.json", "--threads", 1, "--device", "cpu", "--json",
        "-o", files / f"{out}.gguf", "--table", files / f"{out}.npz",
    )  # fmt: skip


def _run(command):
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=220, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def _without_times(value):
    """A record without what differs from one run to the next for reasons of their own."""
    if isinstance(value, dict):
        dropped = ("seconds", "peak_memory", "written", "finished")
        return {key: _without_times(part) for key, part in value.items() if key not in dropped}
    return [_without_times(part) for part in value] if isinstance(value, list) else value


def test_a_run_ends_in_a_file_and_one_killed_in_the_middle_in_the_same(files):
    code, record, said = _run(_tune(files, "wrong.gguf", "whole", 12))
    assert code == 0, said
    assert record["chosen"] == "pairs"
    killed = subprocess.Popen(
        _tune(files, "wrong.gguf", "killed", 12),
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    kept, until = files / "killed.gguf.tune" / "pairs.npz", time.monotonic() + 200
    while not kept.exists() and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.0)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (files / "killed.gguf").exists() and not (files / "killed.gguf.tune" / "run.json").exists()
    code, resumed, said = _run(_tune(files, "wrong.gguf", "killed", 12))
    assert code == 0, said
    assert _without_times(resumed) == _without_times(record)
    for one, other in (("whole.gguf", "killed.gguf"), ("whole.npz", "killed.npz")):
        assert (files / one).read_bytes() == (files / other).read_bytes()
    # what was written holds the wrong factors of the file at hand and those that were found, in one
    factors = read_table(files / "whole.npz").rows(ModelFile.open(files / "right.gguf").decoded.model)
    found = np.log(np.concatenate([np.ravel(row) for row in factors])[:16]) - WRONG
    assert 0.01 < np.abs(found).max() <= 12 * 0.02 + 1e-6
    written, right = ModelFile.open(files / "whole.gguf").decoded, ModelFile.open(files / "right.gguf").decoded
    for layer in range(len(right.model.n_head_kv)):
        before = right.table.frequencies(right.model, layer, 0)
        assert np.allclose(
            written.table.frequencies(written.model, layer, 0), before / np.exp(WRONG + found), rtol=1e-5
        )


def test_nothing_is_written_where_nothing_is_gained(files):
    code, record, said = _run(_tune(files, "right.gguf", "none", 2))
    assert code == 1
    assert "nothing better was found" in said
    assert record["written"] == [] and record["reason"]
    assert not (files / "none.gguf").exists()
    assert not (files / "none.npz").exists()
    code, again, _ = _run(_tune(files, "right.gguf", "none", 2))
    assert (code, again["reason"]) == (1, record["reason"])

"""Control vectors under tables: they are added between layers, and the ropes behind them are found as before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from llama_process import run_job
from test_runtime_head_factors import RATIOS
from test_runtime_length import POINTS, TOKENS, assert_close, with_table
from tiny_cache import LengthTable, Session
from tiny_transformer import ARCHITECTURES, TinyModel

VECTORS = np.random.default_rng(6).standard_normal((3, 128))


@dataclass(frozen=True)
class Steered(TinyModel):
    """Adds ``VECTORS[i]`` behind the layers ``steered``; the first layer has none."""

    steered: tuple[int, ...] = ()

    def feed_forward(self, x: np.ndarray, i: int) -> np.ndarray:
        return super().feed_forward(x, i) + VECTORS[i] * (i in self.steered)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_control_vectors_between_layers(runtime_dir: Path, tmp_path: Path, arch: str) -> None:
    """Switched on, to another layer and off while a text is read over two length points, with ratios by head."""
    model, path = TinyModel(arch), tmp_path / "model.gguf"
    table = LengthTable.growing(model.n_rot, POINTS)
    path.write_bytes(model.file(with_table(table, RATIOS)))
    session, expected, steps = Session(model, table, RATIOS), [], []
    values = VECTORS[1:].ravel().tolist()
    for start, end, steered in ((0, 50, ()), (50, 80, (1, 2)), (80, 110, (1,)), (110, 130, ())):
        session.model = Steered(arch, steered=steered)
        expected.append(session.step(TOKENS[start:end]))
        steps.append(["steer", values, min(steered), max(steered)] if steered else ["steer", []])
        steps.append(["eval", TOKENS[start:end], start, 0])
    outcome = run_job(runtime_dir, path, steps)
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    for found, wanted in zip(outcome.arrays, expected, strict=True):
        assert_close(found, wanted)
    plain = Session(model, table, RATIOS)
    plain.step(TOKENS[:50])
    assert np.abs(plain.step(TOKENS[50:80]) - expected[1]).max() > 1

"""Images between texts, as ``mtmd`` hands them over: embeddings at positions in three sections, under a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, U32, entry
from llama_process import run_job
from test_runtime_head_factors import RATIOS, length_row, with_factors
from test_runtime_length import TOKENS
from tiny_transformer import TinyModel

SECTIONS = [4, 6, 6]
TEXT, AFTER = TOKENS[:10], TOKENS[10:30]
ROWS, COLUMNS = 3, 4


@dataclass(frozen=True)
class Sighted(TinyModel):
    """Qwen2-VL: pairs belong to sections, and each section has positions of its own ``[3][n]`` (time, row, column)."""

    arch: str = "qwen2vl"
    where: tuple[tuple[int, ...], ...] = ()

    def normed(self, x: np.ndarray, name: str) -> np.ndarray:
        """Without the epsilon, which the pin's ``qwen2vl`` does not read from the file."""
        return x / np.sqrt((x * x).mean(-1, keepdims=True)) * self.get(f"{name}.weight")

    def rotate(self, x: np.ndarray, row: np.ndarray, scale: float, positions: np.ndarray | None = None) -> np.ndarray:
        half = self.n_rot // 2
        places = np.array(self.where)[np.repeat(range(3), SECTIONS)].T
        turn = np.exp(1j * places * self.freq_base ** (-np.arange(half) / half) / row) * scale
        turned = (x[:, :half] + 1j * x[:, half:]) * turn
        return np.concatenate([turned.real, turned.imag], axis=1)


def places() -> np.ndarray:
    """``[3, n]`` for a text, an image's patches row by row, and a text behind it."""
    start, row, column = len(TEXT), *np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    image = np.stack([np.full_like(row, start), start + row, start + column])
    first, last = np.arange(start), start + max(ROWS, COLUMNS) + np.arange(len(AFTER))
    return np.concatenate([np.tile(first, (3, 1)), image, np.tile(last, (3, 1))], axis=1)


@pytest.mark.parametrize("row", [False, True])
def test_an_image_between_texts(runtime_dir: Path, tmp_path: Path, row: bool) -> None:
    """By ratios of heads, and by one row of factors for all lengths beside them. Patches attend in their order."""
    model, path = Sighted(where=tuple(map(tuple, places().tolist()))), tmp_path / "model.gguf"
    factors = np.linspace(1, 3, 16, dtype=np.float32)
    keys = [entry("qwen2vl.rope.dimension_sections", ARR, [*SECTIONS, 0], U32)]
    path.write_bytes(model.file(with_factors(RATIOS, *keys, *(length_row(factors, 1.1) if row else []))))
    vectors = np.random.default_rng(9).standard_normal((ROWS * COLUMNS, model.n_embd)).astype(np.float32)
    begin, end = len(TEXT), len(TEXT) + len(vectors)
    columns = places()[:, begin:end].tolist()
    steps = [
        ["eval", TEXT, 0, 0],
        ["vectors", vectors.tolist(), [*columns, [0] * len(vectors)]],
        ["eval", AFTER, int(places()[0, end]), 0],
    ]
    outcome = run_job(runtime_dir, path, steps)
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    words = model.get("token_embd.weight")
    inputs = np.concatenate([words[TEXT], vectors, words[AFTER]])
    table = (factors.astype(float), 1.1) if row else (1.0, 1.0)
    expected = model.linear(model.through(inputs, RATIOS, *table), "output")
    np.testing.assert_allclose(np.concatenate(outcome.arrays), expected, atol=2e-4)
    assert np.abs(expected - model.linear(model.through(inputs), "output"))[begin:].max() > 0.5

"""Contexts of one model in several threads: each has its own rows, ratios, scores and states."""

from __future__ import annotations

from pathlib import Path

from c_program import run_program
from test_runtime_head_factors import RATIOS
from test_runtime_length import with_table
from tiny_cache import LengthTable
from tiny_transformer import TinyModel


def test_contexts_on_different_rows_in_threads(runtime_dir: Path, tmp_path: Path) -> None:
    """To the bit what each gives alone: four contexts are made, pass length points and end at the same time."""
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    table = LengthTable.growing(model.n_rot, [48, 64, 96, 128, 512])
    path.write_bytes(model.file(with_table(table, RATIOS)))
    assert run_program("two_contexts.c", runtime_dir, tmp_path, [path, 6]) == ["same"] * 6

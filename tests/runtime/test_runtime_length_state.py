"""Saved states and the row of a length table: what is loaded and what was there end up with the same row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llama_process import run_job
from test_runtime_head_factors import RATIOS
from test_runtime_length import POINTS, TOKENS, Run, assert_close, run, steps_of, with_table
from tiny_cache import LengthTable, Session
from tiny_transformer import TinyModel

__all__ = ["run"]

OTHER = TOKENS[::-1]


@pytest.fixture
def model() -> TinyModel:
    return TinyModel("qwen2")


@pytest.fixture
def table(model: TinyModel) -> LengthTable:
    return LengthTable.growing(model.n_rot, POINTS)


@pytest.mark.parametrize("what", ["", "_seq"])
@pytest.mark.parametrize("before", [[], [["eval", OTHER[:120], 0, 0]]])
def test_saved_and_continued(
    run: Run, tmp_path: Path, model: TinyModel, table: LengthTable, what: str, before: list
) -> None:
    """Into a new context, and into one that had come to a larger row; then across another switch."""
    data, state = model.file(with_table(table, RATIOS)), str(tmp_path / "state")
    run(data, [*steps_of([60, 15]), [f"save{what}", state]])
    more = [["eval", TOKENS[75:80], 75, 0], ["row"], ["eval", TOKENS[80:110], 80, 0], ["row"]]
    *_, loaded, found, row, last, last_row = run(data, [*before, [f"load{what}", state], *more]).arrays
    session = Session(model, table, RATIOS)
    session.step(TOKENS[:60])
    session.step(TOKENS[60:75])
    assert loaded == 1
    assert_close(found, session.step(TOKENS[75:80]))
    assert row == session.row == 1
    assert_close(last, session.step(TOKENS[80:110]))
    assert last_row == session.row == 2


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize(("n_loaded", "n_there"), [(75, 110), (110, 75), (70, 75)])
def test_state_beside_another_sequence(
    run: Run, model: TinyModel, table: LengthTable, unified: bool, n_loaded: int, n_there: int
) -> None:
    """The larger row of both serves: the loaded keys are rotated anew, or those that were there."""
    steps = [
        *steps_of([n_loaded]),
        ["keep_seq", 0],
        ["clear"],
        ["eval", OTHER[:n_there], 0, 1],
        ["restore_seq", 0],
        ["row"],
    ]
    steps += [
        ["eval", TOKENS[n_loaded : n_loaded + 5], n_loaded, 0],
        ["eval", OTHER[n_there : n_there + 5], n_there, 1],
    ]
    context = {"n_seq_max": 2, "kv_unified": unified, "n_ctx": 512 if unified else 1024}
    *_, loaded, row, a, b = run(model.file(with_table(table, RATIOS)), steps, **context).arrays
    mine, other = Session(model, table, RATIOS), Session(model, table, RATIOS)
    mine.step(TOKENS[:n_loaded])
    other.step(OTHER[:n_there])
    assert loaded == 1
    assert row == max(mine.row, other.row)
    assert_close(a, mine.step(TOKENS[n_loaded : n_loaded + 5], length=n_there))
    assert_close(b, other.step(OTHER[n_there : n_there + 5], length=n_loaded))


def test_pending_shift_goes_before_the_load(run: Run, model: TinyModel, table: LengthTable) -> None:
    steps = [*steps_of([110]), ["keep_seq", 0], ["clear"], ["eval", OTHER[:60], 0, 1], ["remove", 1, 0, 20]]
    steps += [["shift", 1, 20, -1, -20], ["restore_seq", 0], ["eval", OTHER[60:70], 40, 1]]
    found = run(model.file(with_table(table)), steps, n_seq_max=2, kv_unified=True).arrays[-1]
    session = Session(model, table)
    session.step(OTHER[:60])
    session.shift(20, 10**6, -20)
    assert_close(found, session.step(OTHER[60:70], length=110))


def test_table_of_another_file_is_refused(
    runtime_dir: Path, run: Run, tmp_path: Path, model: TinyModel, table: LengthTable
) -> None:
    state, path = str(tmp_path / "state"), tmp_path / "other.gguf"
    run(model.file(with_table(table)), [*steps_of([75]), ["save", state]])
    path.write_bytes(model.file(with_table(LengthTable([*POINTS[:-1], 1024], table.factors, table.scales))))
    assert run_job(runtime_dir, path, [["load", state]]).arrays[0] == 0
    np.testing.assert_array_equal(run(model.file(with_table(table)), [["load", state]]).arrays[0], [1])

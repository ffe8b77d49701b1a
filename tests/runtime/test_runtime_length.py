"""Length tables: the row that serves a context, and cached keys that follow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, F32, U32, entry
from llama_process import Outcome, run_job
from test_runtime_head_factors import RATIOS, with_factors
from tiny_cache import LengthTable, Session
from tiny_transformer import ARCHITECTURES, TinyModel

POINTS = [64, 96, 128, 160, 512]
TOKENS = np.random.default_rng(2).integers(0, 64, 200).tolist()

Run = Callable[..., Outcome]


def with_table(table: LengthTable, ratios: np.ndarray | None = None) -> list[bytes]:
    ratios = np.ones((3, 2)) if ratios is None else ratios
    return with_factors(
        ratios,
        entry("ggufrope.length_points", ARR, table.points, U32),
        entry("ggufrope.length_factors", ARR, table.factors.ravel().tolist(), F32),
        entry("ggufrope.length_attn_scale", ARR, table.scales.tolist(), F32),
    )


def log_probs(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def assert_close(found: np.ndarray, expected: np.ndarray, atol: float = 1e-3) -> None:
    np.testing.assert_allclose(log_probs(found), log_probs(expected), atol=atol)


def steps_of(sizes: list[int], seq: int = 0) -> list[list]:
    """TOKENS in batches of these sizes."""
    ends = np.cumsum(sizes)
    return [["eval", TOKENS[end - size : end], int(end - size), seq] for size, end in zip(sizes, ends, strict=True)]


def expected_of(session: Session, sizes: list[int], length: int = 0) -> list[np.ndarray]:
    ends = np.cumsum(sizes)
    return [session.step(TOKENS[end - size : end], length) for size, end in zip(sizes, ends, strict=True)]


@pytest.fixture
def run(runtime_dir: Path, tmp_path: Path) -> Run:
    def run(data: bytes, steps: list, **context: int) -> Outcome:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        outcome = run_job(runtime_dir, path, steps, **context)
        assert not outcome.error, f"{outcome.error}: {outcome.last_error or outcome.log[-2000:]}"
        return outcome

    return run


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_decode_across_switches(run: Run, arch: str) -> None:
    """A prompt, then one token at a time over three length points; head ratios differ too."""
    model = TinyModel(arch)
    table = LengthTable.growing(model.n_rot, POINTS)
    sizes = [50] + [1] * 100
    outcome = run(model.file(with_table(table, RATIOS)), [*steps_of(sizes), ["row"]])
    session = Session(model, table, RATIOS)
    expected = expected_of(session, sizes)
    assert outcome.arrays[-1] == session.row == 3
    for found, right in zip(outcome.arrays, expected, strict=False):
        assert_close(found, right)


def test_rows_are_those_of_the_length(run: Run) -> None:
    """Exactly at a point the row of that point serves, one token later the next one."""
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    steps = [step for size, step in zip([64, 1, 31, 1], steps_of([64, 1, 31, 1]), strict=True)]
    rows = run(model.file(with_table(table)), [x for step in steps for x in (step, ["row"])]).arrays[1::2]
    assert [int(row[0]) for row in rows] == [0, 1, 1, 2]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_first_row_is_the_plain_model(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    table = LengthTable.growing(model.n_rot, POINTS)
    plain = run(model.file(), steps_of([64])).arrays[0]
    np.testing.assert_array_equal(run(model.file(with_table(table)), steps_of([64])).arrays[0], plain)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_prompt_in_one_batch_is_a_full_prefill(run: Run, arch: str) -> None:
    model = TinyModel(arch)
    table = LengthTable.growing(model.n_rot, POINTS)
    outcome = run(model.file(with_table(table)), steps_of([150]), n_ubatch=32)
    whole = model.logits(TOKENS[:150], None, table.factors[3].astype(float), float(table.scales[3]))
    assert_close(outcome.arrays[0], whole)
    assert_close(run(model.file(with_table(table)), steps_of([150])).arrays[0], whole)


def test_chunks_with_a_hint_equal_one_batch(run: Run) -> None:
    model = TinyModel("llama")
    data = model.file(with_table(LengthTable.growing(model.n_rot, POINTS)))
    whole, sizes = run(data, steps_of([150])).arrays[0], [32, 32, 32, 32, 22]
    hinted = run(data, [["hint", 150], *steps_of(sizes)]).arrays
    assert_close(np.concatenate(hinted), whole)
    without = run(data, steps_of(sizes)).arrays
    assert np.abs(log_probs(np.concatenate(without)) - log_probs(whole)).max() > 0.1


def test_without_a_hint_rows_follow_the_tokens(run: Run) -> None:
    model = TinyModel("qwen2")
    table, sizes = LengthTable.growing(model.n_rot, POINTS), [32, 32, 32, 32, 22]
    outcome = run(model.file(with_table(table)), steps_of(sizes), n_ubatch=32)
    for found, right in zip(outcome.arrays, expected_of(Session(model, table), sizes), strict=True):
        assert_close(found, right)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_layer_equals_a_full_prefill_at_the_new_row(run: Run, arch: str) -> None:
    """With one layer nothing but keys depends on the row."""
    model = TinyModel(arch, n_layer=1)
    table, ratios = LengthTable.growing(model.n_rot, POINTS), np.array([[1.25, 1.5]], dtype=np.float32)
    outcome = run(model.file(with_table(table, ratios)), steps_of([60] + [1] * 110))
    whole = model.logits(TOKENS[:170], ratios, table.factors[4].astype(float), float(table.scales[4]))
    assert_close(np.concatenate(outcome.arrays)[-10:], whole[-10:])


def test_short_prompt_after_a_long_one(run: Run) -> None:
    """Rows go back when the memory is empty, however it was emptied."""
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    short = ["eval", TOKENS[:40], 0, 0]
    steps = [*steps_of([150]), ["clear"], short, ["row"], ["remove", 0, 0, -1], *steps_of([70]), ["row"]]
    steps += [["remove", 0, 30, -1], ["eval", TOKENS[30:40], 30, 0], ["row"], ["remove", 0, -1, -1], short, ["row"]]
    _, first, row_first, _, row_longer, _, row_kept, last, row_last = run(model.file(with_table(table)), steps).arrays
    assert [int(row[0]) for row in (row_first, row_longer, row_kept, row_last)] == [0, 1, 1, 0]
    assert_close(first, model.logits(TOKENS[:40]))
    np.testing.assert_array_equal(last, first)


@pytest.mark.parametrize("unified", [True, False])
def test_the_longest_of_parallel_sequences_decides(run: Run, unified: bool) -> None:
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    other = TOKENS[::-1]
    steps = [["batch", [[TOKENS[:60], 0, 0], [other[:30], 0, 1]]], ["eval", TOKENS[60:100], 60, 0]]
    steps += [["eval", other[30:40], 30, 1], ["batch", [[TOKENS[100:140], 100, 0], [other[40:50], 40, 1]]], ["row"]]
    found = run(
        model.file(with_table(table)), steps, n_seq_max=2, kv_unified=unified, n_ctx=512 if unified else 1024
    ).arrays
    a, b = Session(model, table), Session(model, table)
    assert_close(found[0], np.concatenate([a.step(TOKENS[:60]), b.step(other[:30], length=60)]))
    assert_close(found[1], a.step(TOKENS[60:100]))
    assert_close(found[2], b.step(other[30:40], length=100))
    assert_close(found[3], np.concatenate([a.step(TOKENS[100:140]), b.step(other[40:50], length=140)]))
    assert found[4] == 3


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_switch_after_a_shift(run: Run, arch: str) -> None:
    """A shift and a switch between the same two batches: the shift belongs to the row that was left."""
    model = TinyModel(arch)
    table = LengthTable.growing(model.n_rot, POINTS)
    steps = [*steps_of([90]), ["remove", 0, 10, 30], ["shift", 0, 30, -1, -20], ["eval", TOKENS[90:130], 70, 0]]
    steps += [["shift", 0, 60, -1, 40], ["eval", TOKENS[130:150], 150, 0], ["row"]]
    found = run(model.file(with_table(table, RATIOS)), steps).arrays
    session = Session(model, table, RATIOS)
    session.step(TOKENS[:90])
    session.shift(30, 10**6, -20)
    assert_close(found[1], session.step(TOKENS[90:130]))
    session.shift(60, 10**6, 40)
    assert_close(found[2], session.step(TOKENS[130:150]))
    assert found[3] == 4


def test_switch_after_positions_were_divided(run: Run) -> None:
    """Self-extend halves positions; the cache keeps its row, as it is not empty."""
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    steps = [*steps_of([80]), ["divide", 0, 0, 80, 2], ["eval", TOKENS[80:150], 40, 0], ["row"]]
    found = run(model.file(with_table(table)), steps).arrays
    session = Session(model, table)
    session.step(TOKENS[:80])
    session.positions = session.positions // 2
    assert_close(found[1], session.step(TOKENS[80:150]))
    assert found[2] == 2


def test_a_row_can_be_pinned(run: Run) -> None:
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    steps = [["pin", 3], *steps_of([40, 20]), ["row"], ["pin", -1], ["eval", TOKENS[60:62], 60, 0], ["row"]]
    found = run(model.file(with_table(table)), steps).arrays
    whole = model.logits(TOKENS[:62], None, table.factors[3].astype(float), float(table.scales[3]))
    assert_close(np.concatenate([found[0], found[1], found[3]]), whole)
    assert found[2] == found[4] == 3


def test_rejected_draft_tokens(run: Run) -> None:
    """Speculative decoding: a draft that goes beyond a point brings its row; what is rejected leaves it in place."""
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    steps = [*steps_of([60, 8]), ["row"], ["remove", 0, 62, -1], ["eval", TOKENS[100:110], 62, 0], ["row"]]
    found = run(model.file(with_table(table)), steps).arrays
    session = Session(model, table)
    session.step(TOKENS[:60])
    assert_close(found[1], session.step(TOKENS[60:68]))
    session.drop(62)
    assert_close(found[3], session.step(TOKENS[100:110]))
    assert found[2] == found[4] == session.row == 1


def test_head_factors_keep_a_pinned_row(run: Run) -> None:
    model = TinyModel("llama")
    table = LengthTable.growing(model.n_rot, POINTS)
    steps = [["pin", 3], ["set", RATIOS.ravel().tolist()], *steps_of([40]), ["row"]]
    ok, found, row = run(model.file(with_table(table)), steps).arrays
    assert (ok, row) == (1, 3)
    assert_close(found, model.logits(TOKENS[:40], RATIOS, table.factors[3].astype(float), float(table.scales[3])))

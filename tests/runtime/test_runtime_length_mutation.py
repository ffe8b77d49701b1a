"""What the tests of length tables are worth: without the re-rotation of cached keys each of them fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import test_runtime_length as length
import test_runtime_length_server as server
import test_runtime_length_state as state
import test_runtime_length_types as types
from test_runtime_length import Run, run
from test_runtime_length_server import start
from tiny_cache import LengthTable
from tiny_transformer import TinyModel

__all__ = ["run", "start"]

MODEL = TinyModel("qwen2")
TABLE = LengthTable.growing(MODEL.n_rot, length.POINTS)

CHECKS: dict[str, Callable[[Run, Path], None]] = {
    "decode": lambda run, _: length.test_decode_across_switches(run, "llama"),
    "chunks": lambda run, _: length.test_without_a_hint_rows_follow_the_tokens(run),
    "one layer": lambda run, _: length.test_one_layer_equals_a_full_prefill_at_the_new_row(run, "phi3"),
    "unified": lambda run, _: length.test_the_longest_of_parallel_sequences_decides(run, True),
    "streams": lambda run, _: length.test_the_longest_of_parallel_sequences_decides(run, False),
    "shift": lambda run, _: length.test_switch_after_a_shift(run, "llama"),
    "divide": lambda run, _: length.test_switch_after_positions_were_divided(run),
    "state": lambda run, tmp: state.test_saved_and_continued(run, tmp, MODEL, TABLE, "", []),
    "sequence": lambda run, tmp: state.test_saved_and_continued(run, tmp, MODEL, TABLE, "_seq", []),
    "loaded is turned": lambda run, _: state.test_state_beside_another_sequence(run, MODEL, TABLE, True, 75, 110),
    "others are turned": lambda run, _: state.test_state_beside_another_sequence(run, MODEL, TABLE, True, 110, 75),
    "f16": lambda run, _: types.test_switch_costs_one_more_rounding(run, "f16", "qwen2", 64),
    "q8_0": lambda run, _: types.test_switch_costs_one_more_rounding(run, "q8_0", "qwen2", 64),
    "q4_0": lambda run, _: types.test_switch_costs_one_more_rounding(run, "q4_0", "qwen2", 64),
}


@pytest.fixture
def disabled(runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The function of libllama that rotates keys anew is overridden by one that does nothing."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("overriding needs LD_PRELOAD and a C compiler")
    source, library = Path(__file__).with_name("no_rerotation.c"), tmp_path / "no_rerotation.so"
    symbol = source.read_text().split("__asm__(")[1].split(")")[0].replace('"', "").replace("\n", "").replace(" ", "")
    if symbol.encode() not in (runtime_dir / "libllama.so").read_bytes():
        pytest.skip("this compiler names the function otherwise")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    yield


@pytest.mark.parametrize("check", CHECKS)
def test_fails_without_rerotation(disabled: None, run: Run, tmp_path: Path, check: str) -> None:
    with pytest.raises(AssertionError):
        CHECKS[check](run, tmp_path)


@pytest.mark.parametrize(
    "check",
    [
        server.test_second_request_reuses_a_prefix_and_crosses_a_switch,
        server.test_prompt_from_the_cache_in_memory,
        server.test_slots_share_the_row_of_the_longest,
    ],
)
def test_server_fails_without_rerotation(disabled: None, start: Callable, check: Callable[[Callable], None]) -> None:
    with pytest.raises(AssertionError):
        check(start)

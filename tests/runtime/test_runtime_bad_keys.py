"""Malformed or mismatching keys: a load error that names the key, never an abort, never ignored."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, BOOL, F32, I32, STR, U8, U32, U64, entry
from llama_process import Outcome, run_job
from tiny_transformer import TinyModel

VERSION, METHOD = entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "ms-poe")
SENTINEL = "ggufrope.requires_patched_runtime"


def factors(values: list[float], kind: int = F32) -> bytes:
    return entry("ggufrope.head_factors", ARR, values, kind)


def row(points: list[int], values: list[float], scale: list[float]) -> list[bytes]:
    return [
        entry("ggufrope.length_points", ARR, points, U32),
        entry("ggufrope.length_factors", ARR, values, F32),
        entry("ggufrope.length_attn_scale", ARR, scale, F32),
    ]


VERSION_2 = entry("ggufrope.version", U32, 2)
ONE_ROW = [VERSION_2, METHOD, *row([512], [1.5] * 16, [1])]


def layers(values: list[bool], kind: int = BOOL) -> bytes:
    return entry("ggufrope.length_layers", ARR, values, kind)


BAD = {
    "no version": ([METHOD, factors([1.5] * 6)], "'ggufrope.version': expected a u32, found no such key"),
    "version type": ([entry("ggufrope.version", U64, 1), METHOD], "'ggufrope.version': expected a u32, found type u64"),
    "version 0": ([entry("ggufrope.version", U32, 0), METHOD], "'ggufrope.version': expected 1 to 3, found 0"),
    "newer": ([entry("ggufrope.version", U32, 4)], "'ggufrope.version': .* 4: made by a newer ggufrope"),
    "no method": ([VERSION], "'ggufrope.method': expected a string, found no such key"),
    "method type": (
        [VERSION, entry("ggufrope.method", U32, 3)],
        "'ggufrope.method': expected a string, found type u32",
    ),
    "unknown key": (
        [VERSION, METHOD, entry("ggufrope.base_layers", U32, 3)],
        "'ggufrope.base_layers': .* newer runtime",
    ),
    "params type": ([VERSION, METHOD, entry("ggufrope.params", U32, 3)], "'ggufrope.params': expected a string"),
    "too short": ([VERSION, METHOD, factors([1.5] * 5)], "'ggufrope.head_factors': expected 6 f32 .*, found 5"),
    "too long": ([VERSION, METHOD, factors([1.5] * 7)], "'ggufrope.head_factors': expected 6 f32 .*, found 7"),
    "empty": ([VERSION, METHOD, factors([])], "'ggufrope.head_factors': expected 6 f32 .*, found 0"),
    "integers": ([VERSION, METHOD, factors([1] * 6, I32)], "'ggufrope.head_factors': .* found an array of i32"),
    "strings": ([VERSION, METHOD, factors(["a"] * 6, STR)], "'ggufrope.head_factors': .* found an array of str"),
    "scalar": (
        [VERSION, METHOD, entry("ggufrope.head_factors", F32, 1.5)],
        "'ggufrope.head_factors': .* found type f32",
    ),
    "zero": ([VERSION, METHOD, factors([1.5, 0] * 3)], "'ggufrope.head_factors': .* found 0 at index 1"),
    "negative": ([VERSION, METHOD, factors([1.5] * 5 + [-1])], "'ggufrope.head_factors': .* found -1 at index 5"),
    "nan": ([VERSION, METHOD, factors([float("nan")] * 6)], "'ggufrope.head_factors': .* found -?nan at index 0"),
    "inf": ([VERSION, METHOD, factors([float("inf")] * 6)], "'ggufrope.head_factors': .* found inf at index 0"),
    "order": (
        [VERSION, METHOD, entry("ggufrope.head_order", STR, "per-prompt")],
        "'ggufrope.head_factors': expected the ratios that 'ggufrope.head_order' hands out, found no such key",
    ),
    "context": ([VERSION, METHOD, entry("ggufrope.context_length", U32, 0)], "'ggufrope.context_length': .* found 0"),
    "context type": (
        [VERSION, METHOD, entry("ggufrope.context_length", F32, 9)],
        "'ggufrope.context_length': .* type f32",
    ),
    "equal points": (
        [VERSION, METHOD, *row([256, 256], [1] * 32, [1, 1])],
        "'ggufrope.length_points': expected increasing lengths, found 256 after 256",
    ),
    "falling points": (
        [VERSION, METHOD, *row([64, 512, 256], [1] * 48, [1, 1, 1])],
        "'ggufrope.length_points': expected increasing lengths, found 256 after 512",
    ),
    "no point": ([VERSION, METHOD, *row([], [], [])], "'ggufrope.length_points': expected at least 1 .*, found 0"),
    "rows missing": (
        [VERSION, METHOD, *row([256, 512], [1] * 31, [1, 1])],
        "'ggufrope.length_factors': expected 32 f32 values .16 for each of 2 length points., found 31",
    ),
    "row nan": (
        [VERSION, METHOD, *row([256, 512], [1] * 20 + [float("nan")] * 12, [1, 1])],
        "'ggufrope.length_factors': expected finite values > 0, found -?nan at index 20",
    ),
    "row negative": (
        [VERSION, METHOD, *row([256, 512], [1] * 31 + [-2], [1, 1])],
        "'ggufrope.length_factors': expected finite values > 0, found -2 at index 31",
    ),
    "scale zero": ([VERSION, METHOD, *row([256, 512], [1] * 32, [1, 0])], "'ggufrope.length_attn_scale': .* found 0"),
    "scale missing": (
        [VERSION, METHOD, *row([256, 512], [1] * 32, [1])],
        "'ggufrope.length_attn_scale': expected 2 .* found 1",
    ),
    "padding": ([VERSION, METHOD, entry("ggufrope.padding", STR, "")], "'ggufrope.padding': expected a u8 array"),
    "no points": ([VERSION, METHOD, *row([512], [1] * 16, [1])[1:]], "'ggufrope.length_points': .* found no such key"),
    "point 0": ([VERSION, METHOD, *row([0], [1] * 16, [1])], "'ggufrope.length_points': expected lengths > 0, found 0"),
    "row length": ([VERSION, METHOD, *row([512], [1] * 15, [1])], "'ggufrope.length_factors': expected 16 .* found 15"),
    "row zero": ([VERSION, METHOD, *row([512], [0] * 16, [1])], "'ggufrope.length_factors': .* found 0 at index 0"),
    "layers": ([*ONE_ROW, layers([True] * 2)], "'ggufrope.length_layers': expected 3 bool .*, found 2"),
    "layers type": ([*ONE_ROW, layers([1] * 3, U8)], "'ggufrope.length_layers': .* found an array of u8"),
    "no layers": ([*ONE_ROW, layers([False] * 3)], "'ggufrope.length_layers': expected true for some .* false for all"),
    "layers alone": ([VERSION_2, METHOD, layers([True] * 3)], "'ggufrope.length_points': .* found no such key"),
    "layers of version 1": (
        [VERSION, *ONE_ROW[1:], layers([True] * 3)],
        "'ggufrope.version': expected 2 beside 'ggufrope.length_layers', found 1",
    ),
    "scale": ([VERSION, METHOD, *row([512], [1] * 16, [1, 1])], "'ggufrope.length_attn_scale': expected 1 .* found 2"),
}


def load(library: Path, tmp_path: Path, data: bytes, **context: int) -> Outcome:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return run_job(library, path, [["eval", [1, 2, 3], 0, 0]], **context)


@pytest.mark.parametrize("case", BAD)
def test_bad_key_is_a_load_error(runtime_dir: Path, tmp_path: Path, case: str) -> None:
    entries, reason = BAD[case]
    outcome = load(runtime_dir, tmp_path, TinyModel("llama").file(entries))
    assert outcome.error == "model"
    assert re.search(reason, outcome.last_error)
    lines = [line for line in outcome.log.splitlines() if "error loading model" in line]
    assert len(lines) == 1
    assert outcome.last_error in lines[0]


def test_padding_is_let_pass(runtime_dir: Path, tmp_path: Path) -> None:
    data = TinyModel("llama").file([VERSION, METHOD, entry("ggufrope.padding", ARR, [0] * 77, U8)])
    assert not load(runtime_dir, tmp_path, data).error


def test_context_beyond_the_last_length_is_refused(runtime_dir: Path, tmp_path: Path) -> None:
    data = TinyModel("llama").file([VERSION, METHOD, *row([256, 512], [1] * 16 + [2] * 16, [1, 1])])
    assert not load(runtime_dir, tmp_path, data, n_ctx=512).error
    outcome = load(runtime_dir, tmp_path, data, n_ctx=1024)
    assert outcome.error == "context"
    assert outcome.last_error == (
        "a context of 1024 tokens is longer than the 512 that 'ggufrope.length_points' covers; "
        "ask for at most that (-c, n_ctx), or convert with a larger --context"
    )


def test_layer_without_rope_is_refused_by_name(runtime_dir: Path, tmp_path: Path) -> None:
    """SmolLM3 leaves every fourth layer unrotated: a factor there could not apply."""
    model = TinyModel("smollm3", n_layer=4)
    good = [VERSION, METHOD, factors([1.5] * 6 + [1.0] * 2)]
    assert not load(runtime_dir, tmp_path, model.file(good)).error
    outcome = load(runtime_dir, tmp_path, model.file([VERSION, METHOD, factors([1.5] * 8)]))
    assert outcome.error == "context"
    assert re.match("layer 3 of architecture smollm3: no rotated Q and K found", outcome.last_error)


def test_tensor_split_mode_is_refused(runtime_dir: Path, tmp_path: Path) -> None:
    """It mirrors the factors while it divides the heads among devices, so that heads would get others' rows."""
    settings = {"split_tensors": True, "flash_attn_type": 1}
    model, path = TinyModel("llama"), tmp_path / "model.gguf"
    path.write_bytes(model.file([VERSION, METHOD, factors([1.0] * 6)]))
    assert not run_job(runtime_dir, path, [], **settings).error  # decoding so crashes on a CPU, in stock too
    outcome = load(runtime_dir, tmp_path, model.file([VERSION, METHOD, factors([1.5] * 6)]), **settings)
    assert outcome.error == "model"
    assert outcome.last_error.startswith("split mode 'tensor' does not support per-head RoPE factors; use split mode")


def test_sentinel_is_for_patched_runtimes_only(runtime_dir: Path, stock_dir: Path, tmp_path: Path) -> None:
    model, sentinel = TinyModel("llama"), [(SENTINEL, np.zeros(1, np.float32))]
    data = model.file([VERSION, METHOD, factors([1.5] * 6)], sentinel)
    assert not load(runtime_dir, tmp_path, data).error
    refused = load(stock_dir, tmp_path, data)
    assert refused.error == "model"
    assert "wrong number of tensors" in refused.log


@pytest.mark.parametrize(
    ("entries", "tensors", "reason"),
    [
        ([], [(SENTINEL, np.zeros(1))], "without the key 'ggufrope.version'"),
        ([VERSION, METHOD], [(SENTINEL, np.zeros(2))], "expected 1 element of f32, found 2 of f32"),
        ([VERSION, METHOD], [("ggufrope.other", np.zeros(1))], ""),
    ],
)
def test_other_extra_tensors_are_refused(
    runtime_dir: Path, tmp_path: Path, entries: list[bytes], tensors: list, reason: str
) -> None:
    outcome = load(runtime_dir, tmp_path, TinyModel("llama").file(entries, tensors))
    assert outcome.error == "model"
    assert reason in outcome.last_error if reason else "wrong number of tensors" in outcome.log


@pytest.mark.parametrize(
    ("points", "named", "reason"),
    [
        ([256, 512], [True] * 3, "'ggufrope.length_layers': expected false for layer 0, which has a sliding window"),
        ([256, 512], [False, True, False], ""),
        ([512], [True] * 3, ""),
    ],
)
def test_windows_do_not_follow_the_length(
    runtime_dir: Path, tmp_path: Path, points: list[int], named: list[bool], reason: str
) -> None:
    """Gemma 2: layers 0 and 2 have a window. Without its tensors no model loads, but keys are read before tensors."""
    window = entry("gemma2.attention.sliding_window", U32, 16)
    rows = row(points, [1.5] * 16 * len(points), [1] * len(points))
    outcome = load(runtime_dir, tmp_path, TinyModel("gemma2").file([VERSION_2, METHOD, *rows, layers(named), window]))
    assert outcome.error == "model"
    assert re.search(reason, outcome.last_error) if reason else not outcome.last_error

"""The arithmetic of the comparison, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ggufrope.errors import CheckFailed
from ggufrope.inference.session import chunk_size
from ggufrope.validate import ValidationResult, require
from ggufrope.validate.parts import CacheType, FlashAttention, Weights, run_parts
from ggufrope.validate.position_errors import Bucket, PositionErrors, bucket, compare, edges
from ggufrope.validate.tolerances import TOLERANCES, Limits, limits, why_not

F32, F16, Q8_0 = map(Weights, ("F32", "F16", "Q8_0"))


def log(*rows):
    return np.log(np.array(rows, dtype=np.float64))


def test_errors_by_hand():
    reference, runtime = log([0.5, 0.25, 0.25], [0.2, 0.7, 0.1]), log([0.5, 0.25, 0.25], [0.4, 0.35, 0.25])
    found = compare([reference], [runtime])
    kl = 0.2 * np.log(0.5) + 0.7 * np.log(2) + 0.1 * np.log(0.4)
    assert found.kl == pytest.approx([0, kl])
    assert found.max_abs == pytest.approx([0, np.log(2.5)])
    assert found.same_top.tolist() == [True, False]


def test_streams_are_joined_and_counted():
    blocks = [log([0.5, 0.5]), log([0.1, 0.9], [0.3, 0.7])]
    seen = []
    found = compare(iter(blocks), iter(blocks), seen.append)
    assert seen == [1, 3]
    assert found.kl.shape == (3,)
    for left, right in [(blocks, blocks[:1]), (blocks[:1], blocks), (blocks, [blocks[0], blocks[0]])]:
        with pytest.raises(ValueError, match="shorter"):
            compare(left, right)


def test_buckets():
    assert edges(2000, 512) == [0, 64, 128, 256, 512, 1024, 2000]
    assert edges(2000, 700) == [0, 64, 128, 256, 512, 700, 1024, 2000]
    assert edges(1, 512) == [0, 1]
    assert edges(64, 64) == [0, 64]
    assert edges(30000, 512)[-4:] == [8192, 16384, 24576, 30000]
    assert max(b - a for a, b in pairwise(edges(131072, 8192))) == 8192
    errors = PositionErrors(np.array([1.0, 3.0, 2.0]), np.array([0.1, 0.3, 0.2]), np.array([True, False, True]))
    assert bucket(errors, 0, 2) == Bucket(0, 2, 2.0, 3.0, 0.3, 0.5)


def test_one_block_of_logits_stays_small():
    for n_vocab in (1, 512, 128256, 256000, 2**25):
        assert 1 <= chunk_size(n_vocab) <= 256
        for itemsize in (4, 8):
            chunk = chunk_size(n_vocab, itemsize=itemsize)
            assert chunk == 1 or chunk * n_vocab * itemsize <= 2**24
    assert chunk_size(32000, 32 * 100_000) * 32 * 100_000 <= 2**26
    assert chunk_size(512, 8 * 2000) == 256


def test_limits_are_named_and_documented():
    page = (Path(__file__).parents[2] / "docs/validation.md").read_text(encoding="utf-8")
    assert len({str(part) for part in TOLERANCES}) == len(TOLERANCES)
    for part, tolerance in TOLERANCES.items():
        assert tolerance.part == part
        assert tolerance.measured
        assert tolerance.notices
        shown = ["any" if x is None else f"{x:g}" for x in (tolerance.max_abs, tolerance.mean_kl)]
        shown = ["not judged", "–"] if tolerance.mean_kl is None else shown
        assert f"| {part} | {' | '.join(shown)} |" in page


@pytest.mark.parametrize(
    ("name", "parts", "length", "expected"),
    [
        ("F32 weights", [F32], 2000, (2e-2, 1e-6)),
        ("F32 weights", [F32], 8192, (8e-2, 1e-6)),
        ("F16 weights + F16 KV cache", [F16, CacheType("F16")], 10, ((0.25 + 0.64) ** 0.5, 1e-4)),
        (
            "F16 weights + Q8_0 weights + Q8_0 KV cache + flash attention",
            [F16, Q8_0, CacheType("Q8_0"), FlashAttention()],
            10,
            (None, 0.0601),
        ),
    ],
)
def test_limits_of_parts(name, parts, length, expected):
    found = limits(parts, length)
    assert found.name == name
    assert (found.max_abs, found.mean_kl) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert why_not(parts) == ""


def test_without_a_limit_for_every_part_there_is_none():
    for parts, said in {
        (Weights("Q6_K"),): "no set limit for Q6_K weights",
        (F16, CacheType("Q4_0")): "Q4_0 KV cache alone may be as far off as a mistake would be",
        (Weights("Q4_K_M"),): "Q4_K_M weights alone may be as far off as a mistake would be; --as-stored and a Hugging",
    }.items():
        assert limits(parts, 10) is None
        assert said in why_not(parts)
        assert limits(parts, 10, 0.5) == Limits("--tolerance", 0.5)
    assert "--as-stored" not in why_not([CacheType("Q4_0")])  # it stores no matrices


@pytest.mark.parametrize(
    ("types", "name"),
    [
        ("F16", "F16"),
        ("F16+F32", "F16+F32"),
        ("Q8_0", "Q8_0"),
        ("F16+Q8_0", "Q8_0"),
        ("Q4_K+Q6_K", "Q4_K_M"),
        ("F32+Q4_K+Q5_0+Q6_K+Q8_0", "Q4_K_M"),
        ("F16+Q5_0+Q8_0", "Q4_K_M"),
        ("Q4_K", "Q4_K"),
        ("Q6_K", "Q6_K"),
        ("IQ4_NL+Q4_K+Q6_K", "IQ4_NL+Q4_K+Q6_K"),
    ],
)
def test_mixtures_have_names(types, name):
    assert Weights.of(types.split("+")) == Weights(name)
    known = name in ("Q8_0", "Q4_K_M")
    assert str(Weights.of(types.split("+"), as_stored=True)) == f"{name} weights{' as stored' * known}"


def test_parts_of_a_run():
    assert run_parts([F16], "f32", False) == (F16,)
    assert run_parts([F32], "f32", False) == (F32,)
    assert run_parts([F32, Q8_0], "q8_0", True) == (Q8_0, CacheType("Q8_0"), FlashAttention())
    assert run_parts([Q8_0, F16], "f32", False) == (F16, Q8_0)
    assert run_parts([F16, F16], "f16", False) == (F16, CacheType("F16"))


GOOD = Bucket(0, 100, 1e-10, 1e-9, 1e-4, 1.0)
RESULT = ValidationResult(
    file="a.gguf",
    reference="hf",
    method="ms-poe",
    rotation="as it is",
    weights="F32",
    length=100,
    tokens="some",
    limits=Limits("F32 weights", 1e-3, 1e-8),
    total=GOOD,
    buckets=(GOOD,),
)


@pytest.mark.parametrize(
    ("changes", "passed", "said"),
    [
        ({}, True, "passed: max |Δ log p| 1.0e-04"),
        ({"max_abs": 2e-3}, False, "FAILED: max |Δ log p| 2.0e-03"),
        ({"mean_kl": 2e-8}, False, "(limits: 1.0e-03 and 1.0e-08, F32 weights); worst at positions 0 to 99"),
        ({"max_abs": float("nan"), "mean_kl": float("nan")}, False, "FAILED"),
        ({"max_abs": float("inf")}, False, "FAILED"),
    ],
)
def test_verdict(changes, passed, said):
    total = replace(GOOD, **changes)
    result = replace(RESULT, total=total, buckets=(total,))
    assert result.passed is passed
    assert said in result.verdict
    assert result.lines()[-1] == result.verdict
    json.dumps(result.as_json(), allow_nan=False)
    if passed:
        require(result)
    else:
        with pytest.raises(CheckFailed, match=r"a\.gguf: FAILED"):
            require(result)


def test_without_limits_nothing_is_judged_but_nonsense_still_fails():
    open_ended = replace(RESULT, limits=None, unjudged="no set limit for Q4_K weights")
    assert open_ended.passed is None
    assert "no set limit for Q4_K weights; --tolerance gives a limit" in open_ended.verdict
    require(open_ended)
    nan = replace(GOOD, max_abs=float("nan"))
    assert replace(open_ended, total=nan, buckets=(nan,)).passed is False


def test_a_limit_on_kl_alone():
    by_kl = replace(RESULT, limits=Limits("Q8_0 weights", None, 1e-8))
    assert replace(by_kl, total=replace(GOOD, max_abs=9.0)).passed
    assert "(limits: any and 1.0e-08, Q8_0 weights)" in by_kl.verdict
    assert replace(by_kl, total=replace(GOOD, mean_kl=2e-8)).passed is False


def test_settings_are_in_the_first_line():
    first = replace(RESULT, kv_type="q8_0", flash_attn=True).lines()[0]
    assert first == "a.gguf (ms-poe, F32; Q8_0 KV cache, flash attention on) against PyTorch on hf"
    assert replace(RESULT, reference_kind="gguf", reference_weights="F16").lines()[0].endswith("against hf (F16)")


def test_table_has_a_row_for_each_bucket():
    halves = (replace(GOOD, end=50), replace(GOOD, start=50))
    lines = replace(RESULT, buckets=halves, notes=("mind this",)).lines()
    assert [line.split()[0] for line in lines[5:8]] == ["0-49", "50-99", "all"]
    assert "note: mind this" in lines


def test_frequencies_that_differ_fail_whatever_the_limits_are():
    wrong = replace(RESULT, disagreement="layer 0 at 300 tokens: pair 3 turns at 0.1 against 0.2 radians per token")
    for result in (wrong, replace(wrong, limits=None), replace(wrong, limits=Limits("--tolerance", 1e9))):
        assert result.passed is False
        assert result.verdict.startswith(f"FAILED: {wrong.disagreement}; max |Δ log p|")
        with pytest.raises(CheckFailed, match="pair 3 turns at"):
            require(result)


def test_what_was_compared_is_said():
    shown = replace(
        RESULT, declared="default", claimed="no method", frequency_gap=1e-7, scale_gap=0.0, compared_at=(100,)
    ).lines()
    assert f"{RESULT.reference} asks for default" in shown
    assert f"{RESULT.file} claims no method" in shown
    line = "frequencies: largest relative difference 1.0e-07, of the attention scale 0.0e+00, at 100 tokens"
    assert line in shown
    assert any(line.startswith("frequencies: not compared") for line in RESULT.lines())
    assert not any(line.startswith("frequencies") for line in replace(RESULT, reference_kind="gguf").lines())


def test_json_keys_are_stable():
    keys = (
        "file reference method rotation weights length tokens limits total buckets notes reference_kind "
        "reference_weights kv_type flash_attn methods_differ unjudged declared claimed claimed_from frequency_gap "
        "scale_gap compared_at disagreement passed verdict"
    )
    assert list(RESULT.as_json()) == keys.split()
    assert list(RESULT.as_json()["buckets"][0]) == list(RESULT.as_json()["total"])
    assert list(RESULT.as_json()["total"]) == ["start", "end", "mean_kl", "max_kl", "max_abs", "top1"]
    page = (Path(__file__).parents[2] / "docs/validation.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in (*RESULT.as_json(), *RESULT.as_json()["total"], "name"))

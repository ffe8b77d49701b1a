"""The arithmetic of the comparison, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ggufrope.errors import CheckFailed
from ggufrope.validate import ValidationResult, require
from ggufrope.validate.compare import Bucket, PositionErrors, bucket, compare, edges
from ggufrope.validate.engine import chunk_size
from ggufrope.validate.tolerances import TOLERANCES, Limits, limits


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
    with pytest.raises(ValueError, match="shorter"):
        compare(blocks, blocks[:1])


def test_buckets():
    assert edges(2000, 512) == [0, 64, 128, 256, 512, 1024, 2000]
    assert edges(2000, 700) == [0, 64, 128, 256, 512, 700, 1024, 2000]
    assert edges(1, 512) == [0, 1]
    assert edges(64, 64) == [0, 64]
    errors = PositionErrors(np.array([1.0, 3.0, 2.0]), np.array([0.1, 0.3, 0.2]), np.array([True, False, True]))
    assert bucket(errors, 0, 2) == Bucket(0, 2, 2.0, 3.0, 0.3, 0.5)


def test_one_block_of_logits_stays_small():
    for n_vocab in (1, 512, 128256, 256000, 2**25):
        assert 1 <= chunk_size(n_vocab) <= 256
        assert chunk_size(n_vocab) == 1 or chunk_size(n_vocab) * n_vocab <= 2**22


def test_limits_are_named_and_documented():
    page = (Path(__file__).parents[2] / "docs/validation.md").read_text(encoding="utf-8")
    for name, tolerance in TOLERANCES.items():
        assert tolerance.name == name
        assert tolerance.measured
        assert f"| {name} | {tolerance.max_abs:g} | {tolerance.mean_kl:g} |" in page
    assert limits("F32", 2000) == Limits("F32 weights", 2e-2, 1e-6)
    assert limits("F32", 8192).max_abs == pytest.approx(8e-2)
    assert limits("Q4_K+Q6_K", 10) is None
    assert limits("F32", 10, 0.5) == limits("Q8_0", 10, 0.5) == Limits("--tolerance", 0.5)


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
    open_ended = replace(RESULT, limits=None, weights="Q4_K")
    assert open_ended.passed is None
    assert "no set limit for Q4_K weights" in open_ended.verdict
    require(open_ended)
    nan = replace(GOOD, max_abs=float("nan"))
    assert replace(open_ended, total=nan, buckets=(nan,)).passed is False


def test_table_has_a_row_for_each_bucket():
    halves = (replace(GOOD, end=50), replace(GOOD, start=50))
    lines = replace(RESULT, buckets=halves, notes=("mind this",)).lines()
    assert [line.split()[0] for line in lines[4:7]] == ["0-49", "50-99", "all"]
    assert "note: mind this" in lines


def test_json_keys_are_stable():
    keys = "file reference method rotation weights length tokens limits total buckets notes passed verdict"
    assert list(RESULT.as_json()) == keys.split()
    assert list(RESULT.as_json()["total"]) == ["start", "end", "mean_kl", "max_kl", "max_abs", "top1"]
    page = (Path(__file__).parents[2] / "docs/validation.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in (*RESULT.as_json(), *RESULT.as_json()["total"], "name"))

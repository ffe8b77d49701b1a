"""The CPU kernel with rows of frequency factors, against float64 numpy and against itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ggml_rope import MODES, Ggml
from rope_cases import DEFAULT, FUSED, LARGE, Shape, cases, check, check_fused, heads_alone, inputs, make

N_HEAD_KV, HEAD_DIM = DEFAULT.n_head_kv, DEFAULT.head_dim
#: Angles equal, cosines rounded either way: half a unit in the last place of values up to 5.
ROUNDED = {"f4": {"rtol": 0, "atol": 6e-7}, "f2": {"rtol": 2**-10, "atol": 1e-6}}


@pytest.fixture(scope="module")
def ggml(runtime_dir: Path) -> Ggml:
    return Ggml(runtime_dir)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("rows", DEFAULT.rows())
@pytest.mark.parametrize(("mode", "variant"), cases())
def test_kernel_equals_numpy(ggml: Ggml, mode: str, variant: str, rows: str, dtype: str) -> None:
    assert check(ggml, mode, variant, rows, dtype) <= 1


@pytest.mark.parametrize("rows", DEFAULT.rows())
@pytest.mark.parametrize(("mode", "variant", "norm", "cache"), FUSED)
def test_neighbours_of_a_rope(ggml: Ggml, mode: str, variant: str, norm: bool, cache: str | None, rows: str) -> None:
    """The CPU computes one op after the other: this checks the reference that fused kernels are held to."""
    assert check_fused(ggml, mode, variant, norm, cache, rows) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_shapes(ggml: Ggml, shape: Shape) -> None:
    for mode, variant in cases():
        for rows in shape.rows():
            assert check(ggml, mode, variant, rows, "f4", shape) <= 1, (mode, variant, rows)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize(("mode", "variant"), cases())
def test_rows_equal_calls_for_each_head(ggml: Ggml, mode: str, variant: str, dtype: str) -> None:
    """To the bit if those have two equal rows; one row has its cosines from libm, which may round the other way.

    Not YaRN's, whose angles a compiler may round in two ways: float64 numpy has checked those.
    """
    rope = make(mode, variant)
    x, pos, factors = inputs(rope, N_HEAD_KV, dtype)
    expected, one_row = (heads_alone(ggml, rope, x, pos, factors, copies) for copies in (2, 1))
    for threads in (1, 3):
        np.testing.assert_array_equal(ggml.rotate(rope, x, pos, factors, threads=threads), expected)
    if rope.ext_factor == 0:
        np.testing.assert_allclose(expected, one_row, **ROUNDED[dtype])


@pytest.mark.parametrize("rows", ["none", "one"])
@pytest.mark.parametrize(("mode", "variant"), cases())
def test_without_rows_the_result_is_stocks_to_the_bit(
    ggml: Ggml, stock_dir: Path, mode: str, variant: str, rows: str
) -> None:
    """As built, with the optimisation and instructions that users have."""
    rope = make(mode, variant)
    for dtype in ("f4", "f2"):
        x, pos, factors = inputs(rope, DEFAULT.rows()[rows], dtype)
        np.testing.assert_array_equal(ggml.rotate(rope, x, pos, factors), Ggml(stock_dir).rotate(rope, x, pos, factors))


@pytest.mark.parametrize("mode", MODES)
def test_equal_rows_and_ones_change_nothing(ggml: Ggml, mode: str) -> None:
    rope = make(mode, "plain")
    x, pos, factors = inputs(rope, 1, "f4")
    one_row = ggml.rotate(rope, x, pos, factors[0])
    equal_rows = ggml.rotate(rope, x, pos, np.repeat(factors, N_HEAD_KV, axis=0))
    np.testing.assert_allclose(equal_rows, one_row, **ROUNDED["f4"])
    ones = np.ones((N_HEAD_KV, HEAD_DIM // 2), np.float32)
    np.testing.assert_allclose(ggml.rotate(rope, x, pos, ones), ggml.rotate(rope, x, pos, None), **ROUNDED["f4"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [1e-30, 1e-38, np.inf, np.nan])
def test_factors_beyond_any_sense_do_as_in_one_row(ggml: Ggml, mode: str, factor: float) -> None:
    """Huge, infinite and vanishing angles: what libm says, also where a thread has many rows."""
    rope = make(mode, "plain")
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    factors[1, 3] = factor
    got, expected = ggml.rotate(rope, x, pos, factors), heads_alone(ggml, rope, x, pos, factors)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, **ROUNDED["f4"])


@pytest.mark.parametrize("mode", ["norm", "neox", "mrope", "imrope"])
def test_partial_rotation_reads_only_its_factors(ggml: Ggml, mode: str) -> None:
    """Rows exactly as long as the rotated part: what follows a row in memory is another head's."""
    rope = make(mode, "partial")
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    exact = ggml.rotate(rope, x, pos, factors[:, : rope.n_dims // 2])
    np.testing.assert_array_equal(exact, ggml.rotate(rope, x, pos, factors))


@pytest.mark.parametrize("mode", MODES)
def test_backward_undoes_forward(ggml: Ggml, mode: str) -> None:
    rope = make(mode, "plain")
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    back = ggml.rotate(replace(rope, backward=True), ggml.rotate(rope, x, pos, factors), pos, factors)
    np.testing.assert_allclose(back, x, atol=1e-5)

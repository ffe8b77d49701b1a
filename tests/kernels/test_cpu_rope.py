"""The CPU kernel with rows of frequency factors, against float64 numpy and against itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ggml_rope import MODES, Ggml
from rope_cases import DEFAULT, FUSED, LARGE, Shape, cases, check, check_fused, inputs, make

N_HEAD, N_HEAD_KV, HEAD_DIM = DEFAULT.n_head, DEFAULT.n_head_kv, DEFAULT.head_dim


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
def test_rows_equal_calls_for_each_head_to_the_bit(ggml: Ggml, mode: str, variant: str, dtype: str) -> None:
    rope = make(mode, variant)
    x, pos, factors = inputs(rope, N_HEAD_KV, dtype)
    group = N_HEAD // N_HEAD_KV
    each = [ggml.rotate(rope, x[:, :, [h]], pos, factors[h // group]) for h in range(N_HEAD)]
    for threads in (1, 3):
        np.testing.assert_array_equal(ggml.rotate(rope, x, pos, factors, threads=threads), np.concatenate(each, axis=2))


@pytest.mark.parametrize("mode", MODES)
def test_equal_rows_and_ones_change_nothing(ggml: Ggml, mode: str) -> None:
    rope = make(mode, "plain")
    x, pos, factors = inputs(rope, 1, "f4")
    one_row = ggml.rotate(rope, x, pos, factors[0])
    np.testing.assert_array_equal(ggml.rotate(rope, x, pos, np.repeat(factors, N_HEAD_KV, axis=0)), one_row)
    ones = np.ones((N_HEAD_KV, HEAD_DIM // 2), np.float32)
    np.testing.assert_array_equal(ggml.rotate(rope, x, pos, ones), ggml.rotate(rope, x, pos, None))


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

"""The Vulkan rope shaders as built, executed by a Vulkan driver (see ``on_vulkan.py``), on the same cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ggml_rope import MODES
from on_vulkan import VulkanProcess
from rope_cases import DEFAULT, FUSED, LARGE, Shape, cases, check, check_fused, inputs, make

N_HEAD, N_HEAD_KV, HEAD_DIM = DEFAULT.n_head, DEFAULT.n_head_kv, DEFAULT.head_dim
#: Vulkan also fuses writes of multi-section ropes, and norms before an offset.
FUSED_HERE = [
    *FUSED,
    *((mode, variant, False, cache) for mode in ("mrope", "imrope") for variant in ("plain", "yarn", "partial")
      for cache in ("f4", "f2")),
    *((mode, "offset", True, cache) for mode in ("norm", "neox") for cache in (None, "f4", "f2")),
]  # fmt: skip

pytestmark = pytest.mark.vulkan


@pytest.mark.parametrize("rows", DEFAULT.rows())
@pytest.mark.parametrize(("mode", "variant"), cases())
def test_kernel_equals_numpy(vulkan: VulkanProcess, mode: str, variant: str, rows: str) -> None:
    for dtype in ("f4", "f2"):
        assert vulkan(check, mode, variant, rows, dtype) <= 1


@pytest.mark.parametrize("rows", DEFAULT.rows())
@pytest.mark.parametrize(("mode", "variant", "norm", "cache"), FUSED_HERE)
def test_fused(
    vulkan: VulkanProcess, norm_is_fused: bool, mode: str, variant: str, norm: bool, cache: str | None, rows: str
) -> None:
    """The backend says that it computed these ops as one, whatever the factors, and its shader keeps the rows."""
    if norm and not norm_is_fused:
        pytest.skip("this driver has too few push constants for the fused norm (Mesa 22.3 has 128 bytes, 25.0 has 256)")
    vulkan.fusions()
    assert vulkan(check_fused, mode, variant, norm, cache, rows) <= 1
    assert vulkan.fusions() == {f"{'RMS_NORM_MUL_' * norm}ROPE{'_VIEW_SET_ROWS' * bool(cache)}"}


@pytest.mark.parametrize(("mode", "variant"), cases())
def test_rows_equal_calls_for_each_head_to_the_bit(vulkan: VulkanProcess, mode: str, variant: str) -> None:
    rope = make(mode, variant)
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    group = N_HEAD // N_HEAD_KV
    each = [vulkan.method("rotate", rope, x[:, :, [h]], pos, factors[h // group]) for h in range(N_HEAD)]
    np.testing.assert_array_equal(vulkan.method("rotate", rope, x, pos, factors), np.concatenate(each, axis=2))


@pytest.mark.parametrize("mode", MODES)
def test_equal_rows_and_ones_change_nothing(vulkan: VulkanProcess, mode: str) -> None:
    rope = make(mode, "plain")
    x, pos, factors = inputs(rope, 1, "f4")
    one_row, many = (vulkan.method("rotate", rope, x, pos, f) for f in (factors[0], factors.repeat(N_HEAD_KV, axis=0)))
    np.testing.assert_array_equal(many, one_row)
    ones = np.ones((N_HEAD_KV, HEAD_DIM // 2), np.float32)
    none, many = (vulkan.method("rotate", rope, x, pos, f) for f in (None, ones))
    np.testing.assert_array_equal(many, none)


@pytest.mark.parametrize("mode", ["norm", "neox", "mrope", "imrope"])
def test_rows_as_long_as_the_rotated_part(vulkan: VulkanProcess, mode: str) -> None:
    rope = make(mode, "partial")
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    exact, longer = (vulkan.method("rotate", rope, x, pos, f) for f in (factors[:, : rope.n_dims // 2], factors))
    np.testing.assert_array_equal(exact, longer)


@pytest.mark.parametrize("mode", MODES)
def test_backward_undoes_forward(vulkan: VulkanProcess, mode: str) -> None:
    rope = make(mode, "plain")
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    turned = vulkan.method("rotate", rope, x, pos, factors)
    back = vulkan.method("rotate", replace(rope, backward=True), turned, pos, factors)
    np.testing.assert_allclose(back, x, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_shapes(vulkan: VulkanProcess, norm_is_fused: bool, shape: Shape) -> None:
    for rows in shape.rows():
        for mode, variant in cases():
            for dtype in ("f4", "f2"):
                assert vulkan(check, mode, variant, rows, dtype, shape) <= 1, (mode, variant, rows, dtype)
        for mode, variant, norm, cache in (case for case in FUSED_HERE if norm_is_fused or not case[2]):
            assert vulkan(check_fused, mode, variant, norm, cache, rows, shape) <= 1, (mode, variant, norm, cache, rows)

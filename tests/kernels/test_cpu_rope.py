"""The CPU kernel with rows of frequency factors, against float64 numpy and against itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ggml_rope import MODES, Ggml, Rope

N_HEAD, N_HEAD_KV, HEAD_DIM = 8, 4, 64
POSITIONS = np.array([0, 1, 2, 511, 512, 4095, 16384, 32767])
YARN = {
    "n_ctx_orig": 4096,
    "freq_scale": 0.25,
    "ext_factor": 1.0,
    "attn_factor": 0.9,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
VARIANTS = {
    "plain": {}, "yarn": YARN, "linear": {"freq_scale": 0.25}, "partial": {"n_dims": 24},
    "partial-yarn": {"n_dims": 24, **YARN}, "offset": {"n_dims": 24, "offset": 16}, "inplace": {"inplace": True},
    "backward": {"backward": True}, "backward-partial": {"backward": True, "n_dims": 24},
}  # fmt: skip


@pytest.fixture(scope="module")
def ggml(runtime_dir: Path) -> Ggml:
    return Ggml(runtime_dir)


def make(mode: str, variant: str) -> Rope:
    n_dims = {"n_dims": HEAD_DIM, **VARIANTS[variant]}["n_dims"]
    third = n_dims // 6
    sections = (third + n_dims // 2 - 3 * third, third, third, 0)
    if mode == "vision":
        n_dims, sections = HEAD_DIM // 2, (HEAD_DIM // 4, HEAD_DIM // 4, 0, 0)
    return Rope(mode, **{**VARIANTS[variant], "n_dims": n_dims, "sections": sections})


def inputs(rope: Rope, rows: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((2, len(POSITIONS), N_HEAD, HEAD_DIM)).astype(dtype)
    pos = np.stack([np.roll(POSITIONS, i) for i in range(rope.n_pos)])
    factors = rng.uniform(0.9, 4, (rows, HEAD_DIM // 2)).astype(np.float32)
    return x, pos, factors


def cases() -> list[tuple[str, str]]:
    whole_head_only = {"partial", "partial-yarn", "offset", "backward-partial"}
    return [(m, v) for m in MODES for v in VARIANTS if m != "vision" or v not in whole_head_only]


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("rows", [1, N_HEAD_KV, N_HEAD])
@pytest.mark.parametrize(("mode", "variant"), cases())
def test_kernel_equals_numpy(ggml: Ggml, mode: str, variant: str, rows: int, dtype: str) -> None:
    rope = make(mode, variant)
    x, pos, factors = inputs(rope, rows, dtype)
    expected, slack = rope.reference(x, pos, factors)
    if dtype == "f2":
        slack = slack + np.abs(expected) * 2.0**-11 + 2.0**-24
    for gap in (0, 3):
        got = ggml.rotate(rope, x, pos, factors, gap=gap)
        assert np.all(np.abs(got - expected) <= slack)


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

"""The CUDA and Metal rope kernels as patched, executed on the CPU (see ``on_cpu.py``), on the same cases.

Nothing here ran on a GPU: it shows that the kernels index and compute what they should, not how a GPU rounds. The CPU
kernel's text goes through the same way, so that ``mutations.py`` can break it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from on_cpu import BACKENDS, OnCpu, compile_on_cpu, patched_tree
from rope_cases import DEFAULT, FUSED, LARGE, Shape, cases, check, check_fused, heads_alone, inputs, make

from ggufrope.runtime.fetch import source_tree

N_HEAD_KV = DEFAULT.n_head_kv


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++, which compiles the GPU kernels for the CPU here")
    probe = tmp_path_factory.mktemp("probe") / "half.cpp"
    probe.write_text("_Float16 half = 1;\n")
    if subprocess.run(["g++", "-c", probe, "-o", os.devnull], capture_output=True, check=False).returncode != 0:
        pytest.skip("this g++ has no _Float16, which stands for the GPUs' half (GCC 12 has it)")


@pytest.fixture(scope="session")
def tree(compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The patched tree; ``mutations.py`` gives a broken one."""
    given = os.environ.get("GGUFROPE_KERNEL_TREE")
    return Path(given) if given else patched_tree(tmp_path_factory.mktemp("patched") / "tree")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def ggml(backend: str, tree: Path, runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> OnCpu:
    folder = tmp_path_factory.mktemp(backend)
    return OnCpu(runtime_dir, compile_on_cpu(backend, tree, runtime_dir, folder))


@pytest.fixture(scope="session")
def stock(backend: str, compiler: None, runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> OnCpu:
    folder = tmp_path_factory.mktemp(f"stock-{backend}")
    return OnCpu(runtime_dir, compile_on_cpu(backend, source_tree(), runtime_dir, folder))


@pytest.mark.parametrize("rows", DEFAULT.rows())
@pytest.mark.parametrize(("mode", "variant"), cases())
def test_kernel_equals_numpy(ggml: OnCpu, mode: str, variant: str, rows: str) -> None:
    for dtype in ("f4", "f2"):
        assert check(ggml, mode, variant, rows, dtype) <= 1


@pytest.mark.parametrize("backend", ["cuda"], indirect=True)  # the others fuse no rope
@pytest.mark.parametrize("rows", DEFAULT.rows())
@pytest.mark.parametrize(("mode", "variant", "norm", "cache"), FUSED)
def test_fused(ggml: OnCpu, mode: str, variant: str, norm: bool, cache: str | None, rows: str) -> None:
    """The backend's own predicate takes these ops as one, whatever the factors, and its kernel keeps the rows."""
    assert check_fused(ggml, mode, variant, norm, cache, rows) <= 1


@pytest.mark.parametrize(("mode", "variant"), cases())
def test_rows_equal_calls_for_each_head_to_the_bit(ggml: OnCpu, backend: str, mode: str, variant: str) -> None:
    """One row has its cosines from libm on the CPU, so there those calls have two."""
    rope = make(mode, variant)
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    alone = heads_alone(ggml, rope, x, pos, factors, copies=2 if backend == "cpu" else 1)
    np.testing.assert_array_equal(ggml.rotate(rope, x, pos, factors), alone)


@pytest.mark.parametrize("rows", ["none", "one"])
@pytest.mark.parametrize(("mode", "variant"), cases())
def test_without_rows_the_result_is_stocks_to_the_bit(
    ggml: OnCpu, stock: OnCpu, mode: str, variant: str, rows: str
) -> None:
    rope = make(mode, variant)
    x, pos, factors = inputs(rope, DEFAULT.rows()[rows], "f4")
    np.testing.assert_array_equal(ggml.rotate(rope, x, pos, factors), stock.rotate(rope, x, pos, factors))


@pytest.mark.parametrize("mode", ["norm", "neox", "mrope", "imrope"])
def test_rows_as_long_as_the_rotated_part(ggml: OnCpu, mode: str) -> None:
    rope = make(mode, "partial")
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    exact = ggml.rotate(rope, x, pos, factors[:, : rope.n_dims // 2])
    np.testing.assert_array_equal(exact, ggml.rotate(rope, x, pos, factors))


@pytest.mark.parametrize("backend", ["cuda"], indirect=True)
def test_a_fusion_with_an_offset_is_refused(ggml: OnCpu) -> None:
    """That the predicates are asked at all: upstream's fused norm does not know offsets."""
    rope = make("neox", "offset")
    x, pos, factors = inputs(rope, N_HEAD_KV, "f4")
    with pytest.raises(RuntimeError, match="would not run"):
        ggml.rotate_fused(rope, x, pos, factors, weight=np.ones(DEFAULT.head_dim, np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_shapes(ggml: OnCpu, backend: str, shape: Shape) -> None:
    for rows in shape.rows():
        for mode, variant in cases():
            for dtype in ("f4", "f2"):
                assert check(ggml, mode, variant, rows, dtype, shape) <= 1, (mode, variant, rows, dtype)
        for mode, variant, norm, cache in FUSED if backend == "cuda" else []:
            assert check_fused(ggml, mode, variant, norm, cache, rows, shape) <= 1, (mode, variant, norm, cache, rows)

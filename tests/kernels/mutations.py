#!/usr/bin/env python3
"""Do the kernel tests notice? Breaks the patched kernels in one place at a time and expects the tests to fail.

    python tests/kernels/mutations.py [NAME...]     all of them, or those named

Prints a line for each; exit code 1 if a broken kernel passes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(_ROOT)]

from on_cpu import patched_tree  # noqa: E402  (found by the line above)

__all__ = ["MUTATIONS", "Mutation"]

_CPU = "ggml/src/ggml-cpu/ops.cpp"
_CUDA = "ggml/src/ggml-cuda/rope.cu"
_METAL = "ggml/src/ggml-metal/kernels/rope.metal"
_METAL_HOST = "ggml/src/ggml-metal/ggml-metal-ops.cpp"
_CPU_HERE = "static void ggml_compute_forward_rope_flt("
_METAL_ROW = "(i1/args.n_head_row)*args.ne20"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One deliberate mistake.

    Attributes:
        path: File in the patched tree.
        after: Text that comes before the place, so that it is in the right kernel; empty for the file's start.
        old, new: The mistake; the first ``old`` behind ``after`` is replaced.
    """

    path: str
    after: str
    old: str
    new: str

    @property
    def backend(self) -> str:
        """Whose tests must fail."""
        return self.path.split("/")[2].removeprefix("ggml-")

    def apply(self, text: str) -> str:
        """``text`` with the mistake.

        Raises:
            ValueError: The place is not there any more.
        """
        start = text.find(self.after)
        place = text.find(self.old, start)
        if start < 0 or place < 0:
            raise ValueError(f"{self.path}: no {self.old!r} after {self.after!r}")
        return text[:place] + self.new + text[place + len(self.old) :]


def _cuda_rows() -> dict[str, Mutation]:
    found = {}
    for kernel, pair in (("rope_norm", "iw"), ("rope_neox", "iw"), ("rope_multi", "iw"), ("rope_vision", "i0")):
        here, get = f"__global__ void {kernel}(", f"freq_factors.get(i1, {pair}/2)"
        found[f"cuda-{kernel}-row-0"] = Mutation(_CUDA, here, get, get.replace("i1", "0"))
        found[f"cuda-{kernel}-token-for-head"] = Mutation(_CUDA, here, get, get.replace("i1", "i2"))
    for kernel in ("rope_norm", "rope_neox"):
        get = "freq_factors.get(i1, iw/2)"
        lost = get.replace("i1", "set_rows_stride != 0 ? 0 : i1")
        found[f"cuda-{kernel}-row-0-when-fused"] = Mutation(_CUDA, f"__global__ void {kernel}(", get, lost)
    here, get = "__global__ void rms_norm_mul_rope_f32(", "freq_factors.get(row, i0/2)"
    found["cuda-fused-norm-row-0"] = Mutation(_CUDA, here, get, get.replace("row", "0"))
    found["cuda-fused-norm-token-for-head"] = Mutation(_CUDA, here, get, get.replace("row", "channel"))
    return found


def _metal_rows() -> dict[str, Mutation]:
    found = {}
    for kernel in ("rope_norm", "rope_neox", "rope_multi", "rope_vision"):
        here = f"kernel void kernel_{kernel}("
        found[f"metal-{kernel}-row-0"] = Mutation(_METAL, here, _METAL_ROW, "0")
        token = _METAL_ROW.replace("i1", "i2")
        found[f"metal-{kernel}-token-for-head"] = Mutation(_METAL, here, _METAL_ROW, token)
    return found


MUTATIONS: dict[str, Mutation] = {
    **_cuda_rows(),
    "cuda-row-length": Mutation(_CUDA, "rope_get_ff(", "(int) src2->ne[0]", "rope->op_params[1]/2"),
    "cuda-heads-per-row": Mutation(_CUDA, "rope_get_ff(", "rope->ne[1] / src2->ne[1]", "src2->ne[1]"),
    "cuda-norm-pair-swapped": Mutation(
        _CUDA, "__global__ void rope_norm(", "store_coaelsced(x0 * cos_theta", "store_coaelsced(x1 * cos_theta"
    ),
    "cuda-neox-pair-swapped": Mutation(
        _CUDA, "__global__ void rope_neox(", "x[ix + n_offs/2 + n_dims/2]", "x[ix + n_offs/2 + 1]"
    ),
    "cuda-backward-turns-forward": Mutation(_CUDA, "void rope_yarn(", "sin_theta *= -1.0f", "sin_theta *= 1.0f"),
    **_metal_rows(),
    "metal-row-length": Mutation(_METAL_HOST, "ggml_metal_op_rope(", "op->src[2]->ne[0] : 0", "n_dims/2 : 0"),
    "metal-heads-per-row": Mutation(_METAL_HOST, "ggml_metal_op_rope(", "ne01/op->src[2]->ne[1]", "op->src[2]->ne[1]"),
    "metal-neox-pair-swapped": Mutation(
        _METAL, "kernel void kernel_rope_neox(", "x0*cos_theta - x1*sin_theta", "x0*sin_theta + x1*cos_theta"
    ),
    "cpu-row-0": Mutation(_CPU, _CPU_HERE, "heads_per_row == ne1 ? 0 : i1 / heads_per_row", "0"),
    "cpu-token-for-head": Mutation(_CPU, _CPU_HERE, ": i1 / heads_per_row", ": i2 % src2->ne[1]"),
    "cpu-stale-cache": Mutation(_CPU, _CPU_HERE, "last_i2 != i2 || last_row != row", "last_i2 != i2"),
    "cpu-row-length": Mutation(_CPU, _CPU_HERE, "row*src2->ne[0]", "row*(n_dims/2)"),
    "cpu-pair-swapped": Mutation(
        _CPU, "static void rotate_pairs(", "x0*cos_theta - x1*sin_theta", "x1*cos_theta - x0*sin_theta"
    ),
}


def main(names: list[str]) -> int:
    """Try the mutations ``names``, or all."""
    missed = 0
    with tempfile.TemporaryDirectory() as temporary:
        tree = patched_tree(Path(temporary) / "tree")
        for name in names or MUTATIONS:
            verdict = _verdict(MUTATIONS[name], tree)
            missed += not verdict.startswith("noticed")
            print(f"{name:40} {verdict}", flush=True)
    return 1 if missed else 0


def _verdict(mutation: Mutation, tree: Path) -> str:
    path = tree / mutation.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(mutation.apply(whole), encoding="utf-8")
    # -x: one failing case is enough
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(_HERE / "test_gpu_rope.py")]
    command += ["-k", f"{mutation.backend} and not stock"]
    try:
        env = os.environ | {"GGUFROPE_KERNEL_TREE": str(tree)}
        done = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, check=False)
    finally:
        path.write_text(whole, encoding="utf-8")
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    if done.returncode == 1 and failed:
        return f"noticed: {failed[0].removeprefix('FAILED ').split(' ')[0].split('::')[-1]}"
    return f"NOT NOTICED (pytest ended with {done.returncode}: {lines[-1] if lines else done.stderr[-200:]})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

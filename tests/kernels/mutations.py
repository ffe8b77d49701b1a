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

from build_vulkan import VULKAN_FILES, build_vulkan  # noqa: E402  (found by the line above)
from on_cpu import CannotCompileError, patched_tree  # noqa: E402

__all__ = ["MUTATIONS", "Mutation"]

_CPU = "ggml/src/ggml-cpu/ops.cpp"
_CUDA = "ggml/src/ggml-cuda/rope.cu"
_METAL = "ggml/src/ggml-metal/kernels/rope.metal"
_METAL_HOST = "ggml/src/ggml-metal/ggml-metal-ops.cpp"
_COS_SIN = "ggml/src/ggml-cpu/cos-sin.h"
_VULKAN = "ggml/src/ggml-vulkan/vulkan-shaders/rope_funcs.glsl"
_VULKAN_HOST = "ggml/src/ggml-vulkan/ggml-vulkan.cpp"
_CPU_HERE = "static void ggml_compute_forward_rope_flt("
_METAL_ROW = "(i1/args.n_head_row)*args.ne20"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One deliberate mistake.

    Attributes:
        path: File in the patched tree.
        after: Text that comes before the place, so that it is in the right kernel; empty for the file's start.
        old, new: The mistake; the first ``old`` behind ``after`` is replaced.
        select: Tests that can notice, if not all, as for pytest's ``-k``.
    """

    path: str
    after: str
    old: str
    new: str
    select: str = ""

    @property
    def backend(self) -> str:
        """Whose tests must fail."""
        return self.path.split("/")[2].removeprefix("ggml-")

    @property
    def tests(self) -> list[str]:
        """The files with tests that may notice."""
        if self.backend == "vulkan":
            return ["test_vulkan.py"]
        return ["test_gpu_rope.py", *(["test_cos_sin.py"] if self.path == _COS_SIN else [])]

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


def _vulkan_rows() -> dict[str, Mutation]:
    found = {}
    for kernel, pair in (("rope_norm", "iw"), ("rope_neox", "iw"), ("rope_multi", "iw"), ("rope_vision", "i0")):
        here, get = f"void {kernel}(", f"rope_ff(i1, {pair}/2"
        found[f"vulkan-{kernel}-row-0"] = Mutation(_VULKAN, here, get, get.replace("i1", "0"))
        found[f"vulkan-{kernel}-token-for-head"] = Mutation(_VULKAN, here, get, get.replace("i1", "i2"))
    for kernel in ("rope_norm", "rope_neox", "rope_multi"):
        get = "rope_ff(i1, iw/2"
        lost = get.replace("i1", "p.set_rows_stride != 0 ? 0 : i1")
        found[f"vulkan-{kernel}-row-0-when-fused"] = Mutation(_VULKAN, f"void {kernel}(", get, lost, "fused")
    row = "(i1 / p.n_head_row)"
    lost = f"\n#if RMS_NORM_ROPE_FUSION\n0\n#else\n{row}\n#endif\n"
    found["vulkan-fused-norm-row-0"] = Mutation(_VULKAN, "float rope_ff(", row, lost, "test_fused and True")
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
    **_vulkan_rows(),
    "vulkan-norm-pair-swapped": Mutation(
        _VULKAN, "void rope_norm(", "x0*cos_theta - x1*sin_theta", "x1*cos_theta - x0*sin_theta"
    ),
    "vulkan-neox-pair-swapped": Mutation(_VULKAN, "void rope_neox(", "p.n_offs/2 + p.n_dims/2]", "p.n_offs/2 + 1]"),
    "vulkan-backward-turns-forward": Mutation(_VULKAN, "void rope_yarn(", "p.is_back != 0", "p.is_back == 2"),
    "vulkan-row-length": Mutation(
        _VULKAN_HOST, "ggml_vk_make_rope_constants(", "(uint32_t)ff->ne[0]", "(uint32_t)n_dims/2"
    ),
    "vulkan-heads-per-row": Mutation(
        _VULKAN_HOST, "ggml_vk_make_rope_constants(", "src0->ne[1] / ff->ne[1]", "ff->ne[1]"
    ),
    "vulkan-fused-without-factors": Mutation(
        _VULKAN_HOST,
        "ggml_vk_rope(",
        "const ggml_tensor * src2 = dst->src[2]",
        "const ggml_tensor * src2 = ctx->num_additional_fused_ops > 0 ? nullptr : dst->src[2]",
        "fused",
    ),
    "vulkan-fused-norm-without-factors": Mutation(
        _VULKAN_HOST,
        "RMS_NORM_MUL_ROPE_VIEW_SET_ROWS;",
        "tensors[4] = rope->src[2]",
        "tensors[4] = nullptr",
        "test_fused and True",
    ),
    "vulkan-not-fused": Mutation(
        _VULKAN_HOST, "bool ggml_vk_can_fuse_rope_set_rows(", "rope->src[0]->ne[3] != 1", "rope->src[2]", "fused"
    ),
    "vulkan-refused": Mutation(
        _VULKAN_HOST, "ggml_backend_vk_reg_get_proc_address(", "(void *) ggml_vk_rope : nullptr", "nullptr : nullptr"
    ),
    "cpu-row-0": Mutation(_CPU, _CPU_HERE, "rows ? i1 / heads_per_row : 0", "0"),
    "cpu-token-for-head": Mutation(_CPU, _CPU_HERE, "? i1 / heads_per_row", "? i2 % src2->ne[1]"),
    "cpu-stale-cache": Mutation(_CPU, _CPU_HERE, "rows && last_row != row", "rows && last_row < 0"),
    "cpu-stale-thetas": Mutation(_CPU, _CPU_HERE, "last_i2 != i2", "last_i2 < 0"),
    "cpu-row-length": Mutation(_CPU, _CPU_HERE, "row*src2->ne[0]", "row*(n_dims/2)"),
    "cpu-pair-swapped": Mutation(
        _CPU, "static void rotate_pairs(", "x0*cos_theta - x1*sin_theta", "x1*cos_theta - x0*sin_theta"
    ),
    "cpu-rows-turn-forward": Mutation(_CPU, "void ggml_rope_cache_row(", "mscale*sin_sign", "mscale"),
    "cpu-rows-lose-yarn": Mutation(_CPU, "void ggml_rope_cache_row(", "corr_dims, i0, ext_factor", "corr_dims, i0, 0"),
    "cpu-rows-lose-yarn-scale": Mutation(_CPU, "void ggml_rope_cache_row(", "freq_scale, ext_factor, ms", "1, 0, ms"),
    "cos-sin-odd-quarters": Mutation(_COS_SIN, "", "(k & 1)", "(k & 2)"),
    "cos-sin-sign-of-cos": Mutation(_COS_SIN, "", "((k + 1) & 2)", "(k & 2)"),
    "cos-sin-sign-of-sin": Mutation(_COS_SIN, "", "( k      & 2)", "((k - 1) & 2)"),
    "cos-sin-scales-swapped": Mutation(_COS_SIN, "odd*cosine", "*sin_scale", "*cos_scale"),
    "cos-sin-pi-of-52-bits": Mutation(_COS_SIN, "", " - q*0x1.1a62633145c07p-54", ""),
    "cos-sin-pi-of-26-bits": Mutation(_COS_SIN, "", " - q*0x1.110b46p-26", ""),
    "cos-sin-short-sine": Mutation(_COS_SIN, "", " - z*0x1.aa262f2dc9156p-26", ""),
    "cos-sin-short-cosine": Mutation(_COS_SIN, "", " - z*0x1.2522e707282ddp-22", ""),
    "cos-sin-angles-too-large": Mutation(_COS_SIN, "", "134217728.0f", "1e30f"),
}


def main(names: list[str]) -> int:
    """Try the mutations ``names``, or all."""
    missed = 0
    with tempfile.TemporaryDirectory() as temporary:
        tree = patched_tree(Path(temporary) / "tree")
        vulkan_tree, vulkan_build = Path(temporary) / "vulkan-tree", Path(temporary) / "vulkan-build"
        for name in names or MUTATIONS:
            mutation = MUTATIONS[name]
            if mutation.backend != "vulkan":
                verdict = _verdict(mutation, tree)
            else:
                if not vulkan_tree.exists():
                    patched_tree(vulkan_tree, VULKAN_FILES)
                verdict = _verdict(mutation, vulkan_tree, vulkan_build)
            missed += verdict.startswith("NOT NOTICED")
            print(f"{name:40} {verdict}", flush=True)
    return 1 if missed else 0


def _verdict(mutation: Mutation, tree: Path, build: Path | None = None) -> str:
    path = tree / mutation.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(mutation.apply(whole), encoding="utf-8")
    try:
        if build is None:
            select = f"{mutation.backend} and not stock or cos_sin"
            return _run_tests(mutation.tests, select, {"GGUFROPE_KERNEL_TREE": str(tree)})
        libraries = build_vulkan(tree, build)
        return _run_tests(mutation.tests, mutation.select, {"GGUFROPE_VULKAN_LIBRARIES": str(libraries)})
    except CannotCompileError as error:
        return f"not tried: {error}"
    finally:
        path.write_text(whole, encoding="utf-8")


def _run_tests(files: list[str], select: str, environment: dict[str, str]) -> str:
    # -x: one failing case is enough
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [*(str(_HERE / name) for name in files), "-k", select]
    env = os.environ | environment
    done = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    if done.returncode == 1 and failed:
        return f"noticed: {failed[0].removeprefix('FAILED ').split(' ')[0].split('::')[-1]}"
    if done.returncode == 0 and " passed" not in lines[-1]:
        return f"not tried: {next((line for line in lines if line.startswith('SKIPPED')), lines[-1])}"
    return f"NOT NOTICED (pytest ended with {done.returncode}: {lines[-1] if lines else done.stderr[-200:]})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The patched GPU kernels, compiled for the CPU from the very text that ships: the pinned source plus the series.

``cuda_on_cpu.h`` and ``metal_on_cpu.h`` supply the languages' names. Of the backends' host code, functions are cut out
by name, so that launches, kernel choice, arguments and fusion are upstream's too. The only text that is rewritten is
CUDA's launch syntax. The CPU kernel can be cut out likewise: ``mutations.py`` breaks it without building a library.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

from ggml_rope import Ggml

from ggufrope.runtime.fetch import source_tree
from ggufrope.runtime.locate import library_name
from ggufrope.runtime.patch import apply_series
from ggufrope.runtime.pin import patches_dir, read_series
from ggufrope.runtime.worktree import copy_touched

__all__ = ["BACKENDS", "CannotCompileError", "OnCpu", "compile_on_cpu", "patched_tree"]

BACKENDS = ("cuda", "metal", "cpu")
_HERE = Path(__file__).resolve().parent
#: Files that the series does not touch and that are compiled or read here.
_ALSO = (
    "ggml/include/*.h",
    "ggml/src/*.h",
    "ggml/src/ggml-cuda/*.cuh",
    "ggml/src/ggml-cuda/ggml-cuda.cu",
    "ggml/src/ggml-cuda/vendors/*.h",
    "ggml/src/ggml-metal/ggml-metal-device.cpp",
    "ggml/src/ggml-metal/kernels/common.h",
)
_FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-w", "-fPIC", "-shared")


class CannotCompileError(RuntimeError):
    """The compiler's own words."""


class OnCpu(Ggml):
    """``Ggml`` whose ropes are run by a GPU backend's code."""

    def __init__(self, runtime: Path, library: Path) -> None:
        super().__init__(runtime)
        self.run = ctypes.CDLL(str(library)).on_cpu_compute
        self.run.argtypes = [ctypes.c_void_p]

    def compute(self, context: int, out: int, threads: int) -> None:
        del context, threads
        if self.run(out) != 0:
            raise RuntimeError("this backend would not run these ops as one")


def patched_tree(target: Path, also: tuple[str, ...] = _ALSO) -> Path:
    """The files that the series touches, patched, and the others that match ``also``."""
    pristine, series = source_tree(), read_series(patches_dir())
    copy_touched(pristine, series, target)
    apply_series(patches_dir(), target)
    for path in (path for pattern in also for path in pristine.glob(pattern)):
        copy = target / path.relative_to(pristine)
        if not copy.exists() and path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return target


def compile_on_cpu(backend: str, tree: Path, runtime: Path, folder: Path) -> Path:
    """Compile the rope code of ``backend`` in ``tree`` into ``folder``; returns the library.

    Raises:
        CannotCompileError: g++ does not take it.
    """
    source = tree / "ggml" / "src"
    folder.mkdir(parents=True, exist_ok=True)
    {"cuda": _prepare_cuda, "metal": _prepare_metal, "cpu": _prepare_cpu}[backend](source, folder)
    library = folder / f"{backend}_rope.so"
    include = (
        folder,
        source / f"ggml-{backend}",
        source / f"ggml-{backend}" / "kernels",
        _HERE,
        tree / "ggml" / "include",
    )
    command = ["g++", *_FLAGS, *(f"-I{path}" for path in include), str(_HERE / f"{backend}_rope.cpp"), "-o", library]
    command += [runtime / library_name("ggml-base"), f"-Wl,-rpath,{runtime}"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotCompileError(done.stderr[-4000:])
    return library


def _prepare_cuda(source: Path, folder: Path) -> None:
    cuda = source / "ggml-cuda"
    launches = re.sub(
        r"(\w+<[^<>;]*>)<<<(.*?)>>>\(", r"ON_CPU_LAUNCH((\1), (\2),", (cuda / "rope.cu").read_text(), flags=re.DOTALL
    )
    (folder / "rope.cu").write_text(launches)
    division = function_text(cuda / "common.cuh", "init_fastdiv_values", "fastdiv", "fastmodulo")
    (folder / "ggml-cuda").mkdir(exist_ok=True)
    (folder / "ggml-cuda" / "common.cuh").write_text(f'#pragma once\n#include "cuda_on_cpu.h"\n{division}')
    for name in ("common.cuh", "convert.cuh"):
        (folder / name).write_text('#include "ggml-cuda/common.cuh"\n')
    shutil.copyfile(cuda / "rope.cuh", folder / "rope.cuh")
    predicates = ("ggml_cuda_should_fuse_rope_set_rows", "ggml_cuda_should_fuse_rms_norm_mul_rope")
    (folder / "fusion.inc").write_text(function_text(cuda / "ggml-cuda.cu", *predicates))


def _prepare_metal(source: Path, folder: Path) -> None:
    metal = source / "ggml-metal"
    shutil.copyfile(metal / "kernels" / "rope.metal", folder / "rope.metal")
    (folder / "metal_stdlib").write_text('#include "metal_on_cpu.h"\n')
    choice = function_text(metal / "ggml-metal-device.cpp", "ggml_metal_library_get_pipeline_rope")
    (folder / "encoder.inc").write_text(choice + function_text(metal / "ggml-metal-ops.cpp", "ggml_metal_op_rope"))


def _prepare_cpu(source: Path, folder: Path) -> None:
    text = (source / "ggml-cpu" / "ops.cpp").read_text()
    names = ("rope_yarn_ramp", "rope_yarn_theta", "rope_yarn_mscale", "rope_yarn")
    names += ("ggml_rope_cache_init", "ggml_mrope_cache_init", "ggml_rope_cache_row", "rotate_pairs")
    names += tuple(f"ggml_compute_forward_{name}" for name in ("rope_flt", "rope", "rope_back"))
    ours = {"rope_yarn_theta", "rope_yarn_mscale", "ggml_rope_cache_row"}  # not in the unpatched tree
    found = [name for name in names if name not in ours or f" {name}(" in text]
    (folder / "ops.inc").write_text(function_text(source / "ggml-cpu" / "ops.cpp", *found))


def function_text(path: Path, *names: str) -> str:
    """Definitions of the functions ``names`` in ``path``, in that order; each ends at the next ``}`` in column 0."""
    text, found = path.read_text(), []
    for name in names:
        start = rf"^(template *<[^\n]*\n)?^\w[^\n;]*\b{name}\("
        match = re.search(rf"{start}[^;{{]*\{{.*?^\}}", text, re.MULTILINE | re.DOTALL)
        if match is None:
            raise CannotCompileError(f"{path.name} has no function {name} any more")
        found.append(match[0])
    return "\n\n".join(found) + "\n"

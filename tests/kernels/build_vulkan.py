"""ggml-vulkan alone, built from a tree that ``mutations.py`` breaks: without optimization, which takes half as long."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from on_cpu import CannotCompileError

from ggufrope.runtime.toolchain import find_tools

__all__ = ["VULKAN_FILES", "build_vulkan"]

#: What of the pinned source it needs.
VULKAN_FILES = ("ggml/**/*",)
_OPTIONS = {
    "GGML_VULKAN": "ON", "GGML_CPU": "OFF", "GGML_BUILD_TESTS": "OFF", "GGML_BUILD_EXAMPLES": "OFF",
    "BUILD_SHARED_LIBS": "ON", "CMAKE_BUILD_TYPE": "None",
}  # fmt: skip


def build_vulkan(tree: Path, folder: Path) -> Path:
    """Build ``tree`` in ``folder``, or only what changed there; returns the directory of the libraries.

    Raises:
        CannotCompileError: A tool or Vulkan's headers are missing, or the compiler's own words.
    """
    tools, libraries = find_tools(), folder / "lib"
    if shutil.which("glslc") is None:
        raise CannotCompileError("there is no glslc, which compiles Vulkan's shaders")
    if not (folder / "CMakeCache.txt").exists():
        (tree / "ggml" / "ggml.pc.in").touch()  # cmake wants it when ggml is built alone; the source package lacks it
        options = [f"-D{name}={value}" for name, value in _OPTIONS.items()]
        options += [f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={libraries}"]
        options += [] if tools.ninja is None else ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools.ninja}"]
        _run([str(tools.cmake), "-S", str(tree / "ggml"), "-B", str(folder), *options])
    _run([str(tools.cmake), "--build", str(folder), "-j", "2", "--target", "ggml-vulkan"])
    return libraries


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotCompileError((done.stdout + done.stderr)[-2000:])

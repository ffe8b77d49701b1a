"""Builds ``toys.cpp`` against the pinned and patched sources and runs it on a built library, one process a model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ggufrope.runtime.fetch import source_tree
from ggufrope.runtime.locate import Runtime
from ggufrope.runtime.patch import apply_series
from ggufrope.runtime.pin import patches_dir, read_series
from ggufrope.runtime.worktree import copy_touched

__all__ = ["NoCompilerError", "compile_toys", "copy_read", "run_toys", "variants"]

_LIBRARY_PATH = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
_HERE = Path(__file__).resolve().parent
#: Cheap to compile; what is timed or compared runs in the library.
_READ = ("src/*.h", "include/*.h", "ggml/include/*.h", "tests/test-llama-archs.cpp")
_FLAGS = ("-std=c++17", "-O1", "-w")


class NoCompilerError(RuntimeError):
    """There is no g++, or it did not take the program; its own words."""


def compile_toys(runtime: Runtime, folder: Path) -> Path:
    """Compile the program into ``folder`` and return its path; it runs on any build of this pin (``run_toys``)."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or sys.platform == "win32":
        raise NoCompilerError("a C++ compiler that takes g++'s options is needed")
    tree = folder / "patched"
    copy_touched(source_tree(), read_series(patches_dir()), tree)
    apply_series(patches_dir(), tree)
    copy_read(source_tree(), tree)
    program = folder / "toys"
    libraries = [f"-L{runtime.path}", "-lllama", "-lggml", "-lggml-base", "-ldl"]
    includes = [f"-I{path}" for path in (_HERE, tree / "src", tree / "include", tree / "ggml/include", tree)]
    command = [compiler, *_FLAGS, *includes, "-o", str(program), str(_HERE / "toys.cpp"), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoCompilerError(done.stderr[:4000])
    return program


def copy_read(pristine: Path, tree: Path) -> None:
    """Copy the headers that ``tree`` lacks: two trees on one include path would define things twice."""
    for pattern in _READ:
        for path in pristine.glob(pattern):
            copy = tree / path.relative_to(pristine)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


def run_toys(program: Path, library: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run on the libraries in ``library``; answers its lines. A crash becomes the last line's ``problem``."""
    environment = os.environ | {_LIBRARY_PATH: str(library)}
    done = subprocess.run(
        [str(program), *arguments], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if "GGML_ASSERT" in line or "error" in line.lower()]
        lines.append({"problem": f"exit status {done.returncode}: {' '.join(words)[:300]}"})
    return lines


def variants(program: Path, library: Path) -> dict[str, list[str]]:
    """Every architecture of the pin, with the variants (``dense``, ``moe``) that upstream's toys have."""
    environment = os.environ | {_LIBRARY_PATH: str(library)}
    done = subprocess.run([str(program), "list"], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, variant = line.split()
        found.setdefault(name, []).append(variant)
    return found

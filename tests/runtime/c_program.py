"""Compiles a C program of these tests against the headers of the pin and of the patches, and runs it on a build."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ggufrope.runtime.fetch import source_tree

__all__ = ["run_program"]

HERE = Path(__file__).resolve().parent


def run_program(name: str, library: Path, folder: Path, arguments: Sequence[object]) -> list[str]:
    """Lines that ``name`` (a file beside this one) prints. Skips without a C compiler.

    Raises:
        AssertionError: It does not compile without warnings, or fails.
    """
    if shutil.which("cc") is None:
        pytest.skip("a C compiler is needed")
    source, program = source_tree(), folder / Path(name).stem
    headers = [HERE, HERE.parents[1] / "patches" / "src", source / "include", source / "ggml" / "include"]
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", *(f"-I{path}" for path in headers), HERE / name]
    command += ["-o", program, f"-L{library}", "-lllama", f"-Wl,-rpath,{library}", f"-Wl,-rpath-link,{library}"]
    made = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    return done.stdout.splitlines()

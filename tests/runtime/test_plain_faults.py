"""The patches that mend faults of llama.cpp itself: each applies to the bare pin and brings a test in its style.

Those tests are compiled here and run twice: on the stock build, where they must fail, and on the patched one. What a
test reads of llama.cpp's inner headers it takes from the tree that it is meant for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from arch_matrix.driver import copy_read

from ggufrope.runtime.fetch import source_tree
from ggufrope.runtime.git import run_git
from ggufrope.runtime.patch import stands_alone
from ggufrope.runtime.pin import patches_dir, read_series
from ggufrope.runtime.worktree import copy_touched

#: By patch: its test, with its arguments.
TESTS = {
    "cpu-rope-partial": ["test-rope"],
    "llama-kv-div": ["test-kv-cells"],
    "llama-kv-shift-scale": ["test-kv-shift-yarn"],
    "llama-kv-shift-types": ["test-kv-shift-types"],
    "llama-state-cut-short": ["test-state-cut-short"],
    "llama-rope-pattern": ["test-llama-archs", "-s", "1", "-a", "cohere2$|exaone|smollm3|llama4|baichuan|granite_swa"],
}
#: Faults of tools and of building, whose tests are ours: test_program_output.py, tests/kernels/test_vulkan.py.
OTHERWISE_TESTED = {"tools-log-exit", "vulkan-headers"}
STAND_INS = Path(__file__).resolve().parents[2] / "scripts" / "studies" / "arch_matrix"

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or shutil.which("git") is None or sys.platform != "linux",
    reason="git, g++ and Linux's libraries are needed",
)


def test_each_patch_that_stands_alone_is_listed() -> None:
    assert {path.stem for path in read_series(patches_dir()) if stands_alone(path)} == {*TESTS, *OTHERWISE_TESTED}


def result(patch: Path, libraries: Path, folder: Path, *, mended: bool) -> subprocess.CompletedProcess[str]:
    """Run the test of ``patch``, compiled in the pin with nothing else on it: all of it, or its test alone."""
    name, *arguments = TESTS[patch.stem]
    copy_touched(source_tree(), (patch,), folder)
    copy_read(source_tree(), folder)
    run_git(folder, "apply", "--whitespace=nowarn", *([] if mended else ["--include=tests/*"]), str(patch))
    program = folder / name
    includes = [f"-I{path}" for path in (STAND_INS, *(folder / part for part in ("include", "ggml/include", "src")))]
    command = ["g++", "-std=c++17", "-O1", "-w", *includes, str(folder / "tests" / f"{name}.cpp"), "-o", str(program)]
    command += [f"-L{libraries}", "-lllama", "-lggml", "-lggml-base", "-lggml-cpu", f"-Wl,-rpath,{libraries}"]
    subprocess.run(command, check=True)
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    # in its own folder, for what it writes
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "llama-rope-pattern")) for name in TESTS]
)
def test_its_test_fails_on_the_stock_build_alone(name: str, runtime_dir: Path, stock_dir: Path, tmp_path: Path) -> None:
    patch = patches_dir() / f"{name}.patch"
    mended = result(patch, runtime_dir, tmp_path / "mended", mended=True)
    assert mended.returncode == 0, mended.stdout[-2000:] + mended.stderr[-2000:]
    assert result(patch, stock_dir, tmp_path / "stock", mended=False).returncode != 0

"""Processes that die in native code while llama.cpp computes: ``die_computing.cpp``, preloaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["dying_environment"]


def dying_environment(folder: Path, at: int, how: str) -> dict[str, str]:
    """Variables for a process that is to die at the graph ``at``, counted from 1; the library goes into ``folder``.

    ``how``: ``assert``, ``throw``, ``abort``, ``segv``, ``kill``, or ``wait``, which says so and then waits
    for a signal, five seconds at most.
    """
    if sys.platform != "linux" or shutil.which("c++") is None:
        pytest.skip("dying on purpose needs LD_PRELOAD and a C++ compiler")
    library = folder / "die_computing.so"
    if not library.exists():
        source = Path(__file__).with_name("die_computing.cpp")
        subprocess.run(["c++", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "DIE_AT": str(at), "DIE_HOW": how}

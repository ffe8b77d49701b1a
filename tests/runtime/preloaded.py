"""Small libraries that a test loads before llama.cpp's, so that one of its functions does something else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ggufrope.errors import BuildError
from ggufrope.runtime.fetch import source_tree

__all__ = ["compile_preload"]


def compile_preload(name: str, folder: Path, *libraries: Path) -> Path:
    """Compile ``name`` of this directory against the pin's headers, for ``LD_PRELOAD``; skips where that cannot be.

    It is linked with ``libraries``, and finds them where they are.
    """
    if os.environ.get("GGUFROPE_SANITIZED"):
        pytest.skip("the sanitizers must be loaded first (scripts/check-sanitizers)")
    if sys.platform != "linux" or shutil.which("c++") is None:
        pytest.skip("LD_PRELOAD is Linux's, and the library is compiled here, with c++")
    try:
        ggml = source_tree() / "ggml"
    except BuildError as error:
        pytest.skip(str(error))  # no source, no network
    library = folder / f"{Path(name).stem}.so"
    include = [f"-I{ggml / part}" for part in ("include", "src")]
    source = Path(__file__).with_name(name)
    links = ["-ldl", *libraries, *(f"-Wl,-rpath,{each.parent}" for each in libraries)]
    subprocess.run(["c++", "-std=c++17", "-shared", "-fPIC", *include, source, "-o", library, *links], check=True)
    return library

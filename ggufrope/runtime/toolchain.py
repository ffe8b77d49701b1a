"""The programs that a build needs, and for each one that is missing, the package that provides it."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from ggufrope.errors import BuildError

__all__ = ["COMPILER_REMEDY", "Tools", "cpu_identity", "find_tools"]

COMPILER_REMEDY = {
    "linux": "install one (Debian/Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; Arch: pacman -S gcc)",
    "darwin": "install Apple's command line tools: xcode-select --install",
    "win32": 'install "Desktop development with C++" of the Visual Studio Build Tools',
}


class Tools:
    """Paths of cmake and ninja, and one line that identifies the compiler.

    Attributes:
        cmake: The program.
        ninja: The program; None on Windows without a compiler on ``PATH``, where cmake finds Visual Studio itself.
        compiler: First line of ``--version`` of the C++ compiler, or ``"msvc"``.
    """

    __slots__ = ("cmake", "compiler", "ninja")

    def __init__(self, cmake: Path, ninja: Path | None, compiler: str) -> None:
        self.cmake, self.ninja, self.compiler = cmake, ninja, compiler


def find_tools() -> Tools:
    """Find what a build needs.

    Raises:
        BuildError: Something is missing; the message names the package to install.
    """
    compiler = _compiler()
    cmake = _packaged("cmake", "CMAKE_BIN_DIR")
    use_ninja = sys.platform != "win32" or shutil.which("cl") is not None
    return Tools(cmake, _packaged("ninja", "BIN_DIR") if use_ninja else None, compiler)


def compiler_missing(problem: str = "no C++ compiler found") -> BuildError:
    """The error for a machine that cannot compile C++."""
    return BuildError(f"{problem}; {COMPILER_REMEDY.get(sys.platform, 'install g++ or clang++')}")


def cpu_identity() -> str:
    """What ``-march=native`` depends on, as eight hexadecimal digits: a build made for one CPU may crash on another."""
    facts = [platform.system(), platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for key in ("flags", "Features", "isa"):  # x86, Arm, RISC-V
        facts += [line for line in lines if line.startswith(key)][:1]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _compiler() -> str:
    if sys.platform == "win32" and shutil.which("cl") is None and "CXX" not in os.environ:
        return "msvc"
    wanted = os.environ.get("CXX", "").split()[:1] or ["c++", "g++", "clang++"]
    for name in wanted:
        path = shutil.which(name)
        if path is None:
            continue
        # on a Mac without the command line tools c++ is there, and only says that it is not
        done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.splitlines()[0]
    raise compiler_missing(
        f"CXX is {wanted[0]}, which does not run" if "CXX" in os.environ else "no C++ compiler found"
    )


def _packaged(name: str, attribute: str) -> Path:
    """The program from the Python package of that name, else from ``PATH``."""
    suffix = ".exe" if sys.platform == "win32" else ""
    try:
        path = Path(getattr(importlib.import_module(name), attribute)) / f"{name}{suffix}"
        if path.is_file():
            return path
    except (ImportError, AttributeError):
        pass
    program = shutil.which(name)
    if program is None:
        raise BuildError(f"{name} is missing; install it with {Path(sys.executable).name} -m pip install {name}")
    return Path(program)

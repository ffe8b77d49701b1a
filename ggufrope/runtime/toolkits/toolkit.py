"""What a GPU's toolkit comes to for a build, and how its programs are asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Toolkit", "ask", "first_program"]


@dataclass(frozen=True, slots=True)
class Toolkit:
    """What a backend adds to a build.

    Attributes:
        version: The toolkit's own version, such as ``CUDA 13.0.88``; empty where the backend needs none.
        architectures: GPUs to compile for, in cmake's words; empty where they are not chosen when compiling.
        options: Entries of cmake's cache.
        environment: Variables for cmake and the compilers.
        library_dirs: Where the built libraries must look for the toolkit's at run time.
        notes: What the user should know before using the build, one line each.
    """

    version: str = ""
    architectures: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    library_dirs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> list[str]:
        """What tells two builds of one backend apart; empty without a toolkit."""
        if not self.version:
            return []
        return [self.version, *self.architectures, *(f"{k}={v}" for k, v in sorted(self.options.items()))]


def first_program(name: str, roots: Iterable[str | None], *, folder: str = "bin") -> Path | None:
    """The program of that name in ``folder`` of the first of ``roots`` that has it; ``"PATH"`` stands for ``PATH``."""
    for root in roots:
        if not root:
            continue
        where = None if root == "PATH" else str(Path(root, folder)) + os.pathsep + root
        if program := shutil.which(name, path=where):
            return Path(program)
    return None


def ask(command: list[str], *, text: str = "") -> tuple[int, str]:
    """Exit code and output (both streams) of a short command; -1 where it cannot be run or takes over 30 seconds."""
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return -1, ""
    return done.returncode, done.stdout

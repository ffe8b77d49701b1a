"""How far a build is: parsed from ninja, for whoever shows it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

__all__ = ["Progress", "compile_errors", "run_logged"]

#: Called with (steps done, steps in all, what happens now); the total is 0 while it is not known.
Progress: TypeAlias = Callable[[int, int, str], None]

_STEP = re.compile(r"^\[ *(\d+)/ *(\d+)\] +(.*)")
_ERROR = re.compile(r"(error|undefined reference|failed to)\b.*", re.IGNORECASE)


def run_logged(command: list[str], log: Path, progress: Progress | None, env: dict[str, str] | None = None) -> int:
    """Run ``command``, append what it prints to ``log``, report ninja's steps, and return its exit code."""
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        with subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            try:
                for line in process.stdout or ():
                    file.write(line)
                    if progress is not None and (step := _STEP.match(line)):
                        progress(int(step[1]), int(step[2]), step[3])
            except BaseException:
                process.terminate()  # on Ctrl-C ninja must not go on compiling alone
                raise
            return process.wait()


def compile_errors(log: Path) -> str:
    """The first three lines of ``log`` that look like errors, on one line; its last line when none does."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    hits = [line for line in lines if _ERROR.search(line) and not line.startswith("$ ")]
    return "; ".join(list(dict.fromkeys(hits))[:3] or lines[-1:])

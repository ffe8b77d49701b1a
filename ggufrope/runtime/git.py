"""git, run so that the user's configuration and surrounding repositories do not change what it does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ggufrope.errors import BuildError

__all__ = ["run_git"]

_REMEDY = (
    "install it (Debian/Ubuntu: apt-get install git; Fedora: dnf install git; macOS: xcode-select --install; "
    "Windows: winget install Git.Git)"
)


def run_git(tree: Path, *args: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    """Run ``git args`` in ``tree`` and return its standard output.

    Without the ceiling, ``git apply`` in a cache directory inside someone's repository would silently skip every
    file; without the empty configuration, ``core.autocrlf``, ``commit.gpgsign`` or ``format.*`` would change the
    outcome.

    Raises:
        BuildError: git is not installed, or it failed and ``check`` is true; the message has its last line.
    """
    program = shutil.which("git")
    if program is None:
        raise BuildError(f"git is needed to apply the patches; {_REMEDY}")
    done = subprocess.run(
        [program, "-c", "core.autocrlf=false", "-c", "core.safecrlf=false", *args],
        cwd=tree,
        env=_environment(tree) | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if check and done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        raise BuildError(f"git {_verb(args)} failed in {tree}: {_essence(said)}; delete that folder and try again")
    return done.stdout.decode("utf-8", errors="surrogateescape")


def _verb(args: tuple[str, ...]) -> str:
    return args[2] if args[0] == "-c" else args[0]


def _essence(said: str) -> str:
    """The lines that say what went wrong, on one line."""
    lines = [line.strip() for line in said.splitlines() if line.startswith(("error:", "fatal:"))]
    return "; ".join(lines[:3]) if lines else (said.splitlines() or ["no message"])[-1]


def _environment(tree: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return clean | {
        "GIT_CEILING_DIRECTORIES": str(tree.resolve().parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }

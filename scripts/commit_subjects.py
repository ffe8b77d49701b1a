"""Subjects of commits have at most 72 characters: ``scripts/check`` asks it of all that are younger than the rule."""

from __future__ import annotations

import subprocess
from pathlib import Path

LIMIT = 72
#: The last commit that the rule does not hold for.
BEFORE = "8545a494cdaf0ddec1f5c934a7ac3df4cb02fe75"


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails, or is missing."""
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commits(root: Path, before: str = BEFORE) -> str | None:
    """The range of commits to look at; None where there is none to judge: no repository, or one of another history.

    A shallow clone that lacks ``before`` has younger commits only.
    """
    if _git(root, "cat-file", "-e", f"{before}^{{commit}}") is not None:
        return f"{before}..HEAD"
    return "HEAD" if _git(root, "rev-parse", "--is-shallow-repository") == "true" else None


def too_long(root: Path, before: str = BEFORE) -> list[str]:
    """Hash and subject of each commit whose subject is longer than ``LIMIT``; merges name themselves."""
    selected = commits(root, before)
    log = _git(root, "log", "--no-merges", "--format=%h %s", selected) if selected else ""
    return [line for line in (log or "").splitlines() if len(line.partition(" ")[2]) > LIMIT]


def main() -> int:
    found = too_long(Path(__file__).resolve().parents[1])
    if found:
        print(f"commit subjects of more than {LIMIT} characters:", *found, sep="\n  ")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())

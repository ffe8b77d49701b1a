"""The tree that the compiler sees: the pin with the patches on top, refreshed so that unchanged files keep their age.

One such tree serves every later state of the patches: only files whose bytes differ are written, so ninja compiles
only what they reach.
"""

from __future__ import annotations

import filecmp
import re
import shutil
from pathlib import Path

__all__ = ["copy_touched", "refresh", "touched_files"]


def touched_files(series: tuple[Path, ...]) -> set[str]:
    """Paths in the tree that the patches change, create or delete."""
    paths: set[str] = set()
    for patch in series:
        text = patch.read_text(encoding="utf-8", errors="surrogateescape")
        for old, new in re.findall(r"^diff --git a/(\S+) b/(\S+)$", text, re.MULTILINE):
            paths |= {old, new}
    return paths


def copy_touched(pristine: Path, series: tuple[Path, ...], target: Path) -> None:
    """Copy from ``pristine`` into ``target`` just the files that the patches touch."""
    target.mkdir(parents=True, exist_ok=True)
    for name in touched_files(series):
        if (pristine / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(pristine / name, target / name)


def refresh(tree: Path, pristine: Path, overlay: Path, replaced: set[str]) -> int:
    """Make ``tree`` equal to ``pristine`` without the ``replaced`` paths, plus ``overlay``.

    Returns:
        How many files were written or deleted.
    """
    wanted = {name: path for name, path in _files(pristine).items() if name not in replaced} | _files(overlay)
    present = _files(tree)
    stale = [path for name, path in present.items() if name not in wanted]
    for path in stale:
        path.unlink()
    changed = [
        (tree / name, source)
        for name, source in wanted.items()
        if name not in present or not filecmp.cmp(source, present[name], shallow=False)
    ]
    for target, source in changed:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)  # not copy2: a changed file must look newer than its object
        shutil.copymode(source, target)
    return len(stale) + len(changed)


def _files(root: Path) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}

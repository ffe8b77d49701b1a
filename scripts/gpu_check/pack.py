"""The sources of a stock and a patched build in one small archive, for a machine without a network."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

from ggufrope.errors import InputError
from ggufrope.runtime.fetch import source_tree
from ggufrope.runtime.patch import apply_series
from ggufrope.runtime.pin import Pin, patches_dir, patches_hash, read_series
from ggufrope.runtime.worktree import copy_touched

__all__ = ["overlay", "pack", "unpack"]

_WHOLE = ("cmake", "common", "include", "licenses", "src", "vendor", "tests", "ggml/cmake", "ggml/include")
_BACKENDS = ("ggml-cpu", "ggml-cuda")
_SUFFIXES = {".c", ".cpp", ".h", ".hpp", ".cu", ".cuh", ".cmake", ".in", ".inc", ".S", ".m", ".py", ".txt"}


def pack(archive: Path) -> int:
    """Write ``source/``, what the series changes as ``patched/``, and ``patches.txt``; returns the archive's size."""
    patches = patches_dir()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        root = Path(folder)
        pristine = source_tree(Pin.read(patches))
        for path in _needed(pristine):
            target = root / "source" / path.relative_to(pristine)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        copy_touched(pristine, read_series(patches), root / "all")
        apply_series(patches, root / "all")
        for path in (root / "all").rglob("*"):
            name = path.relative_to(root / "all")
            if path.is_file() and ((root / "source" / name).is_file() or name.parts[:2] == ("src", "ggufrope")):
                (root / "patched" / name).parent.mkdir(parents=True, exist_ok=True)
                path.rename(root / "patched" / name)
        (root / "patches.txt").write_text(f"{Pin.read(patches).upstream} {patches_hash(patches)}\n")
        with tarfile.open(archive, "w:xz", preset=1) as tar:
            for part in ("source", "patched", "patches.txt"):
                tar.add(root / part, part)
    return archive.stat().st_size


def unpack(archive: Path, folder: Path) -> str:
    """Unpack into ``folder``; returns the commit and the hash of the patches in it.

    Raises:
        InputError: Not an archive that ``pack`` wrote.
    """
    try:
        with tarfile.open(archive) as tar:
            _extract(tar, folder)
        return (folder / "patches.txt").read_text().strip()
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{archive}: {error}; make it with scripts/gpu-check --pack FILE") from error


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    for member in tar.getmembers():  # Python before 3.11.4 (3.10.12) has no filters
        path = Path(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"'{member.name}' is not a plain file inside")
    tar.extractall(folder)


def overlay(patched: Path, tree: Path) -> list[str]:
    """Bring ``tree`` from stock to patched; returns the files that must be compiled anew for it.

    A header of which only comments differ keeps its age: half an hour of CUDA code includes ggml.h.
    """
    changed = []
    for path in sorted(patched.rglob("*")):
        if not path.is_file():
            continue
        target = tree / path.relative_to(patched)
        old = target.read_text(encoding="utf-8") if target.is_file() else None
        new = path.read_text(encoding="utf-8")
        if old == new:
            continue
        age = target.stat() if old is not None and code(old) == code(new) else None
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(new, encoding="utf-8")
        if age is None:
            changed.append(path.relative_to(patched).as_posix())
        else:
            os.utime(target, ns=(age.st_atime_ns, age.st_mtime_ns))
    return changed


def code(text: str) -> str:
    """C without comments and layout."""
    pieces = r'"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])*'" + r"|(?:\s|//[^\n]*|/\*.*?\*/)+"
    return re.sub(pieces, lambda m: m[0] if m[0][0] in "\"'" else " ", text, flags=re.DOTALL).strip()


def _needed(tree: Path) -> list[Path]:
    found = [tree / "CMakeLists.txt", tree / "LICENSE", tree / "ggml" / "CMakeLists.txt"]
    found += [path for name in _WHOLE for path in (tree / name).rglob("*")]
    found += (tree / "ggml/src").iterdir()
    found += [path for name in _BACKENDS for path in (tree / "ggml/src" / name).rglob("*")]
    found += [path for path in (tree / "tools").rglob("*") if not {"ui", "server"} & set(path.parts)]
    return sorted({path for path in found if path.is_file() and (path.suffix in _SUFFIXES or "." not in path.name)})

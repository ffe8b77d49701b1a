"""A tiny stand-in for llama.cpp: a pinned archive, and an empty series with one source of ours, and commits."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

FILES = {
    "CMakeLists.txt": "add_library(llama main.cpp)\n",
    "src/main.cpp": "".join(f"int line_{i};\n" for i in range(30)),
    "docs/manual.md": "left out\n",
    ".git": "gitdir: ../nowhere\n",
}


def make_archive(path: Path, extra: tuple[tarfile.TarInfo, ...] = ()) -> str:
    """Write the archive and return its sha256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in FILES.items():
            member = tarfile.TarInfo(f"top-1.0/vendor/llama.cpp/{name}")
            member.size = len(text)
            member.mode = 0o755 if name.endswith(".cpp") else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
        for member in extra:
            tar.addfile(member)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_pristine(root: Path) -> Path:
    for name in ("CMakeLists.txt", "src/main.cpp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(FILES[name])
    return root


def make_patches(root: Path, sha256: str = "0" * 64) -> Path:
    """``UPSTREAM``, an empty series, and ``src/ours.cpp``."""
    (root / "src").mkdir(parents=True)
    (root / "src" / "ours.cpp").write_text("int ours;\n")
    (root / "series").write_text("")
    upstream = f"# the pin\npackage=thing\nversion=1.0\nsha256={sha256}\nupstream=abc1234\nsubtree=vendor/llama.cpp\n"
    (root / "UPSTREAM").write_text(upstream)
    return root


def commit(tree: Path, name: str, text: str, message: str) -> None:
    """Change one file of a developer's tree and commit it as some person."""
    (tree / name).write_text(text)
    who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org"]
    when = {"GIT_AUTHOR_DATE": "2026-01-05T10:00:00+0100", "GIT_COMMITTER_DATE": "2026-06-05T10:00:00+0100"}
    command = ["git", *who, "commit", "--quiet", "--all", "-m", message]
    subprocess.run(command, cwd=tree, check=True, env=os.environ | when)

"""The patch series: into a tree for a build, into a repository for a developer, and back.

A build uses ``git apply`` on a plain tree. A developer's tree is a git repository whose first commit is the pin, whose
second (tag ``ggufrope-base``) adds our own sources, and which then has one commit a patch. Exporting such a tree gives
the same bytes on every machine: dates come from the patches, hashes are full, git's own version and configuration leave
no trace, and every patch is from the project, whoever committed it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from ggufrope.errors import BuildError, CheckFailed, UsageError
from ggufrope.runtime.fetch import source_tree
from ggufrope.runtime.git import run_git
from ggufrope.runtime.pin import OUR_SOURCES, Pin, patches_hash, read_series, sources
from ggufrope.runtime.worktree import copy_touched

__all__ = ["apply_series", "check_series", "export_series", "make_repository", "stands_alone"]

_BASE = "ggufrope-base"
_AUTHOR = "ggufrope maintainers <maintainers@users.noreply.h-seed-a4324fdd.example>"
_FROM = re.compile(rb"^From: (.*(?:\n[ \t].*)*)$", re.MULTILINE)
_NOBODY = {
    "GIT_AUTHOR_NAME": "ggufrope",
    "GIT_AUTHOR_EMAIL": "ggufrope@localhost",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "ggufrope",
    "GIT_COMMITTER_EMAIL": "ggufrope@localhost",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}
_FORMAT = ("--zero-commit", "--full-index", "--no-signature", "--no-stat", "--no-numbered", "--no-renames")


def apply_series(patches: Path, tree: Path) -> None:
    """Turn the unpatched ``tree`` into the patched one: our sources first, then the series in order.

    Raises:
        BuildError: git is missing, or a patch does not apply; the message names it.
    """
    _copy_sources(patches, tree)
    for patch in read_series(patches):
        _apply_one(tree, patch, "apply", "--whitespace=nowarn")


def make_repository(patches: Path, tree: Path, pristine: Path | None = None) -> None:
    """Make ``tree`` (new or empty) a repository of the pin with the series as commits on top.

    Args:
        patches: The patch directory.
        tree: Where the repository goes.
        pristine: The unpatched tree; fetched if not given.

    Raises:
        UsageError: ``tree`` is not empty.
        BuildError: A patch does not apply.
    """
    if tree.exists() and (not tree.is_dir() or any(tree.iterdir())):
        raise UsageError(f"{tree} is not empty; name a new directory")
    pin = Pin.read(patches)
    shutil.copytree(pristine or source_tree(pin), tree, dirs_exist_ok=True)
    run_git(tree, "-c", "init.defaultBranch=ggufrope", "init", "--quiet")
    _commit_all(tree, f"llama.cpp {pin.upstream} as packed in {pin.package} {pin.version}")
    _copy_sources(patches, tree)
    _commit_all(tree, "ggufrope's own sources")
    run_git(tree, "tag", _BASE)
    for patch in read_series(patches):
        _apply_one(tree, patch, "am", "--quiet", "--committer-date-is-author-date", "--keep-cr")


def export_series(tree: Path, patches: Path) -> tuple[str, ...]:
    """Write the commits above ``ggufrope-base`` and ``src/ggufrope`` of ``tree`` back into ``patches``.

    A patch keeps the file name it has in ``patches``, found by its subject; a new one is named by its subject. The
    project is its author.

    Returns:
        The names, in order.

    Raises:
        UsageError: ``tree`` was not made by ``make_repository``, or has uncommitted changes.
    """
    if not (tree / ".git").exists() or not run_git(tree, "tag", "--list", _BASE).strip():
        raise UsageError(f"{tree} was not made by `scripts/patches apply`: it has no tag {_BASE}")
    if run_git(tree, "status", "--porcelain").strip():
        raise UsageError(f"{tree} has uncommitted changes; commit or drop them first")
    with tempfile.TemporaryDirectory() as temporary:
        outside = ("--", ".", f":(exclude){OUR_SOURCES}")
        run_git(tree, "format-patch", "--quiet", *_FORMAT, "-o", temporary, f"{_BASE}..HEAD", *outside)
        exported = sorted(Path(temporary).iterdir())
        known = {_subject(path): path.name for path in patches.glob("*.patch")}
        names = tuple(known.get(_subject(path)) or _slug(_subject(path)) for path in exported)
        if len(set(names)) != len(names):
            raise UsageError(f"{tree}: two commits have the same subject; a patch is named by it")
        for old in patches.glob("*.patch"):
            old.unlink()
        for path, name in zip(exported, names, strict=True):
            (patches / name).write_bytes(_FROM.sub(b"From: " + _AUTHOR.encode(), path.read_bytes(), count=1))
    (patches / "series").write_text("".join(f"{name}\n" for name in names), encoding="utf-8", newline="\n")
    _replace_sources(tree, patches)
    return names


def check_series(patches: Path, pristine: Path | None = None) -> str:
    """Prove that the series is whole: the directory equals it, it is the project's, it applies, and it exports to the
    same bytes. A patch whose ``Upstream-Status`` says that it stands alone applies to the pin by itself.

    Only the files that the patches touch go into the scratch repository, so this takes seconds.

    Returns:
        One line for people.

    Raises:
        CheckFailed: One of them does not hold.
        BuildError: A listed patch is missing or does not apply.
    """
    series = read_series(patches)
    strays = sorted({path.name for path in patches.glob("*.patch")} - {path.name for path in series})
    if strays:
        raise CheckFailed(f"{patches}: {', '.join(strays)} not in series")
    unbuilt = _unmentioned_sources(patches, series)
    if unbuilt:
        raise CheckFailed(f"{patches / 'src'}: no patch adds {', '.join(unbuilt)} to the build")
    for path in series:
        if (author := _author(path)) != _AUTHOR:
            raise CheckFailed(
                f"{path.name} is from {author!r}, expected {_AUTHOR!r}; run scripts/patches apply DIR, then export DIR"
            )
    with tempfile.TemporaryDirectory() as temporary:
        part, tree, again = (Path(temporary) / name for name in ("part", "tree", "again"))
        copy_touched(pristine or source_tree(Pin.read(patches)), series, part)
        for number, path in enumerate(filter(stands_alone, series)):
            alone = Path(temporary) / f"alone-{number}"
            copy_touched(part, (path,), alone)
            _apply_one(alone, path, "apply", "--whitespace=nowarn")
        make_repository(patches, tree, pristine=part)
        shutil.copytree(patches, again)
        export_series(tree, again)
        for path in (*series, patches / "series", *sources(patches)):
            copy = again / path.relative_to(patches)
            if not copy.is_file() or copy.read_bytes() != path.read_bytes():
                raise CheckFailed(
                    f"{path.name} is not what export writes; run scripts/patches apply DIR, then export DIR"
                )
    return f"{len(series)} patches apply to the pin and export to the same bytes ({patches_hash(patches)})"


def stands_alone(patch: Path) -> bool:
    """Whether ``patch`` says that it mends a fault of llama.cpp's own, without the rest of the series."""
    status = re.search(r"^Upstream-Status: (.*)$", patch.read_text(encoding="utf-8"), re.MULTILINE)
    return status is not None and "stands alone" in status[1]


def _apply_one(tree: Path, patch: Path, *how: str) -> None:
    try:
        run_git(tree, *how, str(patch.resolve()), env=_NOBODY)
    except BuildError as error:
        raise BuildError(f"{patch.name} does not apply to the pinned llama.cpp: {error}") from error


def _unmentioned_sources(patches: Path, series: tuple[Path, ...]) -> list[str]:
    """C++ files of ours that would never be compiled: no patch names them, nor a ``.cmake`` of ours that a patch names.

    A glob over the folder names all.
    """
    ours = sources(patches)
    named = "".join(
        line for path in series for line in path.read_text(errors="replace").splitlines() if line[:1] == "+"
    )
    named += "".join(path.read_text() for path in ours if path.suffix == ".cmake" and path.name in named)
    if re.search(r"(ggufrope|CMAKE_CURRENT_LIST_DIR\})/\*\.c", named):
        return []
    return [path.name for path in ours if path.suffix in {".c", ".cpp"} and path.name not in named]


def _copy_sources(patches: Path, tree: Path) -> None:
    for path in sources(patches):
        target = tree / OUR_SOURCES / path.relative_to(patches / "src")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _replace_sources(tree: Path, patches: Path) -> None:
    shutil.rmtree(patches / "src", ignore_errors=True)
    if (tree / OUR_SOURCES).is_dir():
        shutil.copytree(tree / OUR_SOURCES, patches / "src")


def _commit_all(tree: Path, message: str) -> None:
    run_git(tree, "add", "--all", "--force")
    run_git(tree, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", message, env=_NOBODY)


def _subject(patch: Path) -> str:
    """Subject of a formatted patch, folded lines joined, without ``[PATCH]``."""
    match = re.search(r"^Subject: (.*(?:\n .*)*)", patch.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    subject = match.group(1).replace("\n", "") if match else ""
    return re.sub(r"^\[PATCH[^\]]*\] ", "", subject)


def _author(patch: Path) -> str:
    found = _FROM.search(patch.read_bytes())
    return found.group(1).decode(errors="replace") if found else ""


def _slug(subject: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:60].rstrip("-") + ".patch"

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from fake_llama import FILES, commit, make_patches, make_pristine

from ggufrope.errors import BuildError, CheckFailed, UsageError
from ggufrope.runtime.patch import apply_series, check_series, export_series, make_repository
from ggufrope.runtime.pin import patches_hash, read_series
from ggufrope.runtime.worktree import copy_touched, refresh, touched_files

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def pristine(tmp_path: Path) -> Path:
    return make_pristine(tmp_path / "pristine")


@pytest.fixture
def patches(tmp_path: Path, pristine: Path) -> Path:
    """A series of two, exported from a developer's tree."""
    patches, tree = make_patches(tmp_path / "patches"), tmp_path / "made"
    make_repository(patches, tree, pristine)
    cmake = "add_library(llama main.cpp ggufrope/ours.cpp)\n"
    commit(tree, "CMakeLists.txt", cmake, "build: compile our source\n\nWhy it is needed.\n\nUpstream-Status: no\n")
    main = FILES["src/main.cpp"].replace("line_15;", "line_15 = 1;")
    commit(
        tree, "src/main.cpp", main, "Main loop: a subject which is so long that format-patch folds it onto two lines"
    )
    export_series(tree, patches)
    return patches


def test_export_names_by_subject_and_leaves_no_trace_of_the_machine(patches: Path) -> None:
    first, second = read_series(patches)
    assert first.name == "build-compile-our-source.patch"
    assert second.name.startswith("main-loop-a-subject-which")
    text = first.read_text()
    assert text.startswith("From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n")
    assert "Date: Mon, 5 Jan 2026 10:00:00 +0100\nSubject: [PATCH] build: compile our source\n" in text
    assert not text.rstrip().endswith(tuple("0123456789"))  # git's version as a signature


def test_patches_are_from_the_project_whoever_committed_them(patches: Path, pristine: Path, tmp_path: Path) -> None:
    authors = {re.findall(r"^From: (.*)$", path.read_text(), re.MULTILINE)[0] for path in read_series(patches)}
    assert len(authors) == 1
    assert authors.pop().startswith("ggufrope maintainers <")
    assert "person@example.org" not in "".join(path.read_text() for path in read_series(patches))
    path = read_series(patches)[0]
    edit(path, "From: ggufrope maintainers <", "From: A Person <")
    with pytest.raises(CheckFailed, match=rf"{path.name} is from 'A Person <.*', expected 'ggufrope maintainers <"):
        check_series(patches, pristine)
    make_repository(patches, tmp_path / "again", pristine)
    export_series(tmp_path / "again", patches)
    assert "2 patches" in check_series(patches, pristine)


def test_sources_that_a_cmake_file_of_ours_takes(patches: Path, pristine: Path, tmp_path: Path) -> None:
    (patches / "src" / "ours.cmake").write_text("file(GLOB OURS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)\n")
    (patches / "src" / "more.cpp").write_text("int more;\n")
    with pytest.raises(CheckFailed, match=r"no patch adds more\.cpp"):  # nothing includes it
        check_series(patches, pristine)
    make_repository(patches, tmp_path / "again", pristine)
    cmake = "add_library(llama main.cpp)\ninclude(ggufrope/ours.cmake)\n"
    commit(tmp_path / "again", "CMakeLists.txt", cmake, "build: compile what is there")
    export_series(tmp_path / "again", patches)
    assert "3 patches" in check_series(patches, pristine)


def test_check_holds_and_a_file_name_survives(patches: Path, pristine: Path, tmp_path: Path) -> None:
    old, new = read_series(patches)[1], patches / "main-loop.patch"
    old.rename(new)
    (patches / "series").write_text(f"build-compile-our-source.patch\n{new.name}\n")
    assert "2 patches" in check_series(patches, pristine)
    make_repository(patches, tmp_path / "again", pristine)
    before = patches_hash(patches)
    assert export_series(tmp_path / "again", patches) == ("build-compile-our-source.patch", "main-loop.patch")
    assert patches_hash(patches) == before


def test_sources_are_exported_and_their_commits_are_no_patches(patches: Path, pristine: Path, tmp_path: Path) -> None:
    make_repository(patches, tmp_path / "tree", pristine)
    commit(tmp_path / "tree", "src/ggufrope/ours.cpp", "int ours = 2;\n", "ours: two")
    assert len(export_series(tmp_path / "tree", patches)) == 2
    assert (patches / "src" / "ours.cpp").read_text() == "int ours = 2;\n"
    assert "2 patches" in check_series(patches, pristine)


def test_build_tree_equals_developers_tree(patches: Path, pristine: Path, tmp_path: Path) -> None:
    make_repository(patches, tmp_path / "repository", pristine)
    whole = shutil.copytree(pristine, tmp_path / "whole")
    apply_series(patches, whole)
    for name in ("CMakeLists.txt", "src/main.cpp", "src/ggufrope/ours.cpp"):
        assert (whole / name).read_bytes() == (tmp_path / "repository" / name).read_bytes()


def test_apply_works_inside_someone_elses_repository(patches: Path, pristine: Path, tmp_path: Path) -> None:
    make_repository(patches, tmp_path / "outer", pristine)
    inner = shutil.copytree(pristine, tmp_path / "outer" / "cache" / "tree")
    apply_series(patches, inner)  # without a ceiling git skips every file here, and says nothing
    assert "line_15 = 1;" in (inner / "src/main.cpp").read_text()


def test_refresh_touches_only_what_differs(patches: Path, pristine: Path, tmp_path: Path) -> None:
    series, tree = read_series(patches), tmp_path / "work"
    copy_touched(pristine, series, tmp_path / "overlay")
    apply_series(patches, tmp_path / "overlay")
    (pristine / "untouched.h").write_text("")
    assert refresh(tree, pristine, tmp_path / "overlay", touched_files(series)) == 4
    assert refresh(tree, pristine, tmp_path / "overlay", touched_files(series)) == 0
    (tmp_path / "empty").mkdir()
    assert refresh(tree, pristine, tmp_path / "empty", set()) == 3  # stock: two files back, ours gone
    assert (tree / "src/main.cpp").read_text() == FILES["src/main.cpp"]
    assert not (tree / "src/ggufrope/ours.cpp").exists()


def test_a_patch_that_does_not_apply_is_named(patches: Path, pristine: Path, tmp_path: Path) -> None:
    (pristine / "src/main.cpp").write_text("other\n")
    with pytest.raises(BuildError, match=r"main-loop.*patch does not apply.*src/main.cpp") as caught:
        apply_series(patches, shutil.copytree(pristine, tmp_path / "tree"))
    assert "\n" not in str(caught.value)
    with pytest.raises(BuildError, match=r"main-loop.*patch does not apply"):
        check_series(patches, pristine)


def test_broken_patch(patches: Path, pristine: Path) -> None:
    path = read_series(patches)[0]
    path.write_text(path.read_text().replace("@@ -1 ", "@@ -1,9 "))
    with pytest.raises(BuildError, match=f"{path.name} does not apply"):
        check_series(patches, pristine)


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda p: (p / "stray.patch").write_text("x"), r"stray\.patch not in series"),
        (lambda p: (p / "src" / "more.cpp").write_text("int more;\n"), r"no patch adds more\.cpp"),
        (lambda p: edit(next(p.glob("main-*")), "Date: ", "X-Mark: 1\nDate: "), "is not what export writes"),
        (lambda p: (p / "series").write_text("# c\n" + (p / "series").read_text()), "series is not what export writes"),
    ],
)
def test_check_finds(break_it: object, expected: str, patches: Path, pristine: Path) -> None:
    break_it(patches)  # type: ignore[operator]  # a table of lambdas
    with pytest.raises(CheckFailed, match=expected):
        check_series(patches, pristine)


def test_series_lists_only_what_is_there_and_once(patches: Path) -> None:
    for line, expected in (("gone.patch", "no such file"), ("build-compile-our-source.patch", "listed twice")):
        (patches / "series").write_text(f"build-compile-our-source.patch\n{line}\n")
        with pytest.raises(BuildError, match=expected):
            read_series(patches)


def test_export_refuses_a_strange_or_dirty_tree(patches: Path, pristine: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was not made by"):
        export_series(pristine, patches)
    make_repository(patches, tmp_path / "tree", pristine)
    (tmp_path / "tree" / "new").touch()
    with pytest.raises(UsageError, match="uncommitted"):
        export_series(tmp_path / "tree", patches)
    with pytest.raises(UsageError, match="is not empty"):
        make_repository(patches, tmp_path / "tree", pristine)


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest
from fake_llama import make_archive

from ggufrope.errors import BuildError
from ggufrope.runtime import fetch
from ggufrope.runtime.pin import Pin


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUFROPE_CACHE", str(tmp_path / "cache"))


def pin(sha256: str, subtree: str = "vendor/llama.cpp") -> Pin:
    return Pin("thing", "1.0", sha256, "abc1234", subtree)


def serve(monkeypatch: pytest.MonkeyPatch, archive: Path) -> list[int]:
    """Let the "download" deliver ``archive``; the list grows by one with each."""
    calls: list[int] = []

    def deliver(_pin: Pin, folder: Path) -> None:
        calls.append(1)
        (folder / "thing-1.0.tar.gz").write_bytes(archive.read_bytes())

    monkeypatch.setattr(fetch, "_pip_download", deliver)
    return calls


def test_tree_has_what_builds_need_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = make_archive(tmp_path / "a.tar.gz")
    calls = serve(monkeypatch, tmp_path / "a.tar.gz")
    tree = fetch.source_tree(pin(digest))
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()) == [
        "CMakeLists.txt",
        "src/main.cpp",
    ]
    assert (tree / "src/main.cpp").stat().st_mode & 0o100
    assert fetch.source_tree(pin(digest)) == tree
    assert calls == [1]


def test_damaged_archive_in_the_cache_is_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = make_archive(tmp_path / "a.tar.gz")
    calls = serve(monkeypatch, tmp_path / "a.tar.gz")
    path = fetch.sdist(pin(digest))
    path.write_bytes(b"damaged")
    assert hashlib.sha256(fetch.sdist(pin(digest)).read_bytes()).hexdigest() == digest
    assert calls == [1, 1]


def test_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_archive(tmp_path / "a.tar.gz")
    serve(monkeypatch, tmp_path / "a.tar.gz")
    with pytest.raises(BuildError, match="pinned sha256"):
        fetch.source_tree(pin("1" * 64))


@pytest.mark.parametrize("name", ["top-1.0/vendor/llama.cpp/link", "top-1.0/vendor/llama.cpp/../../../../outside"])
def test_links_and_ways_out_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = tarfile.TarInfo(name)
    if name.endswith("link"):
        evil.type, evil.linkname = tarfile.SYMTYPE, "/etc/passwd"
    digest = make_archive(tmp_path / "a.tar.gz", (evil,))
    serve(monkeypatch, tmp_path / "a.tar.gz")
    with pytest.raises(BuildError, match="not a plain file"):
        fetch.source_tree(pin(digest))
    assert not (tmp_path / "outside").exists()
    assert not list((tmp_path / "cache" / "source").glob("*/"))


def test_missing_subtree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = make_archive(tmp_path / "a.tar.gz")
    serve(monkeypatch, tmp_path / "a.tar.gz")
    with pytest.raises(BuildError, match=r"no vendor/other"):
        fetch.source_tree(pin(digest, "vendor/other"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "do not use it"),
        ("ERROR: Could not find a version\nERROR: No matching distribution found for thing==1.0", "check the network"),
        ("/usr/bin/python3: No module named pip", "ensurepip"),
    ],
)
def test_pip_failures_are_one_line(said: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--require-hashes" in command
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=said)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(BuildError, match=expected) as caught:
        fetch.sdist(pin("1" * 64))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("package=a\nversion=1\n", "missing sha256, upstream, subtree"),
        ("package=a\nversion=1\nsha256=12\nupstream=u\nsubtree=s\n", "64 hexadecimal"),
        (None, "names the pinned"),
    ],
)
def test_malformed_upstream(text: str | None, expected: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "UPSTREAM").write_text(text)
    with pytest.raises(BuildError, match=expected):
        Pin.read(tmp_path)

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ggufrope.errors import OutputError
from ggufrope.runtime.cache import cache_dir, locked, replace_dir


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/ggufrope"),
        ("linux", {}, "~/.cache/ggufrope"),
        ("darwin", {}, "~/Library/Caches/ggufrope"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/ggufrope"),
        ("linux", {"GGUFROPE_CACHE": "/mine", "XDG_CACHE_HOME": "/x"}, "/mine"),
    ],
)
def test_cache_dir(platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GGUFROPE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == Path(expected).expanduser()


def test_second_holder_waits(tmp_path: Path) -> None:
    import subprocess

    lock = tmp_path / "a" / "lock"
    code = (
        "import sys\nfrom pathlib import Path\nfrom ggufrope.runtime.cache import locked\n"
        "with locked(Path(sys.argv[1]), lambda: print('waiting', flush=True)):\n    print('got it')"
    )
    with locked(lock):
        other = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
    assert other.communicate()[0] == "got it\n"


def test_unwritable_cache_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="GGUFROPE_CACHE"), locked(tmp_path / "file" / "lock"):
        pass


def test_replace_dir_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_dir(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "new"]

"""The wheel: what it holds, and that it works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny_transformer import TinyModel

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("hatchling", reason="pip install 'ggufrope[dev]'")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds what the wheel puts into ``site-packages``."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """The output of a Python that finds the wheel's package alone, from an empty directory."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_it_holds_what_the_repository_has(installed: Path) -> None:
    """Files that nobody imports are easily forgotten: patches, our C++, the report's style, the typing marker."""
    tracked = subprocess.run(
        ["git", "ls-files", "ggufrope", "patches"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("not a git checkout, so that nothing says which files are the repository's")
    for name in tracked.stdout.splitlines():
        there = installed / (name if name.startswith("ggufrope/") else f"ggufrope/{name}")
        assert there.is_file(), name
        assert there.read_bytes() == (ROOT / name).read_bytes(), name
    others = {path.relative_to(installed).parts[0] for path in installed.iterdir()}
    assert len(others) == 2  # the package, and what pip reads
    assert "licenses/patches/LICENSE.llama.cpp" in {
        str(path.relative_to(path.parents[2])) for path in installed.glob("*.dist-info/*/*/*")
    }


def test_the_runtime_it_would_build_is_the_repository_s(installed: Path, tmp_path: Path) -> None:
    script = (
        "import ggufrope; from ggufrope.runtime.pin import *; print(ggufrope.__file__, patches_hash(patches_dir()))"
    )
    here = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    file, found = run(installed, tmp_path, "-c", script).split()
    assert Path(file).parent == installed / "ggufrope"
    assert here.stdout.split() == [str(ROOT / "ggufrope" / "__init__.py"), found]


def test_its_commands_work_from_anywhere(installed: Path, tmp_path: Path) -> None:
    assert "ms-poe" in run(installed, tmp_path, "-m", "ggufrope", "methods")
    file = tmp_path / "model.gguf"
    file.write_bytes(TinyModel("llama").file(words=True))
    run(installed, tmp_path, "-m", "ggufrope", "convert", "model.gguf", "-o", "out.gguf", "--method", "ms-poe")
    assert "ms-poe" in run(installed, tmp_path, "-m", "ggufrope", "inspect", "out.gguf")

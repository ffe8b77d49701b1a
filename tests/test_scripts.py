"""The scripts: they can be started, style and types are checked in all of them, and texts name those that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = sorted(p for p in (ROOT / "scripts").rglob("*") if p.is_file() and p.read_bytes().startswith(b"#!"))
PYTHON = [p for p in PROGRAMS if "python" in p.read_text(encoding="utf-8").splitlines()[0]]
SHELL = [*(p for p in PROGRAMS if p not in PYTHON), ROOT / ".ci" / "run"]
#: Those that read their command line only after they have loaded torch.
SLOW = {"length-study", "long-prompt-order", "train-demo-model"}
#: Those without options to explain: words (patches, docs), seconds (fuzz).
PLAIN = {"docs", "fuzz", "patches"}
TEXTS = [
    *ROOT.glob("*.md"), *ROOT.glob("*.txt"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.*"),
    *(ROOT / p for p in ("models/demo/README.md", "models/demo/wording.json", "patches/README.md", "pyproject.toml")),
    *(p for folder in ("ggufrope", "scripts", "tests") for p in (ROOT / folder).rglob("*.py")), *PROGRAMS, *SHELL,
]  # fmt: skip
PATH = re.compile(r"(?<![\w/.-])scripts/[\w/-]*\w(?:\.\w+)?")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def settings(tool: str) -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][tool]


@pytest.mark.parametrize(("tool", "key"), [("ruff", "extend-include"), ("mypy", "files")])
def test_style_and_types_are_checked_in_every_script(tool, key):
    """Neither finds Python in files without a suffix by itself."""
    listed = settings(tool)[key]
    assert {p for p in listed if (ROOT / p).is_file()} == {name(p) for p in PYTHON}
    assert all((ROOT / p).exists() for p in listed)


@pytest.mark.parametrize("path", PROGRAMS, ids=name)
def test_scripts_can_be_called(path):
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", SHELL, ids=name)
def test_shell_scripts_are_shell(path):
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] if p.name in SLOW else []) for p in PYTHON if p.name not in PLAIN],
    ids=name,
)
def test_scripts_explain_themselves_from_any_directory(path, tmp_path):
    """Their imports are found from where they lie, wherever they are called from."""
    done = subprocess.run([sys.executable, path, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {path.name}")


def test_scripts_that_are_named_exist():
    named = {(name(p), found) for p in TEXTS for found in PATH.findall(p.read_text(encoding="utf-8"))}
    assert len(named) > 50
    assert {(text, found) for text, found in named if not (ROOT / found).exists()} == set()

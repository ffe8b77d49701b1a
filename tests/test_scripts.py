"""The scripts: they can be started, style and types are checked in all of them, and texts name those that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commit_subjects import LIMIT, too_long

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


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_subjects_of_commits(tmp_path):
    """× is one character. Commits up to the rule, merges and histories without it are not judged."""
    whole, shallow, other = tmp_path / "whole", tmp_path / "shallow", tmp_path / "other"
    git(tmp_path, "init", "-q", "-b", "main", str(whole))
    for subject in ("old " + "x" * LIMIT, "×" * LIMIT, "new " + "x" * LIMIT):
        git(whole, "commit", "-q", "--allow-empty", "-m", f"{subject}\n\n{'body ' * 30}")
    old, *_ = git(whole, "rev-list", "--reverse", "HEAD").splitlines()
    git(whole, "checkout", "-q", "-b", "side", old)
    git(whole, "commit", "-q", "--allow-empty", "-m", "side")
    git(whole, "merge", "-q", "--no-ff", "-m", "merge " + "x" * LIMIT, "main")
    git(tmp_path, "clone", "-q", "--depth", "2", f"file://{whole}", str(shallow))
    git(tmp_path, "init", "-q", "-b", "main", str(other))
    git(other, "commit", "-q", "--allow-empty", "-m", "x" * 80)
    judged = [line.partition(" ")[2] for line in too_long(whole, old)]
    assert judged == [line.partition(" ")[2] for line in too_long(shallow, old)] == ["new " + "x" * LIMIT]
    assert too_long(other, old) == too_long(tmp_path, old) == []


def program(path: Path, code: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\necho {path.name} >> ../ran\nexit {code}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize(("checks", "tests", "expected"), [(0, 0, 0), (1, 0, 1), (0, 3, 3), (1, 3, 3)])
def test_ci_fails_by_checks_and_by_tests_and_runs_both(tmp_path, checks, tests, expected):
    """With stand-ins for what it calls, and no time for anything else."""
    copy = tmp_path / "copy"
    for called, code in (("setup", 0), ("check", checks), ("test", tests)):
        program(copy / "scripts" / called, code)
    for installed in ("glslc", "chromium"):  # else it would install them
        program(copy / "bin" / installed, 0)
    copy.joinpath(".ci").mkdir()
    run = copy / ".ci" / "run"
    run.write_bytes((ROOT / ".ci" / "run").read_bytes())
    environment = {**os.environ, "CI_MINUTES": "0", "PATH": f"{copy / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", run], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    assert (tmp_path / "ran").read_text().split() == ["setup", "check", "test"]
    assert ("scripts/check failed" in done.stdout) == bool(checks)

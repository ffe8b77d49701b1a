"""The documentation against the code: generated parts are current, links lead somewhere, commands and options exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ggufrope import __version__
from ggufrope.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "patches" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"^    (?:\$ )?(ggufrope [a-z].*)$", re.M)


def test_generated_parts_are_current():
    done = subprocess.run(
        [sys.executable, "scripts/docs", "check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target, _, anchor in (t.partition("#") for t in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))):
        if not target.startswith("https://"):
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in headings(there), f"{target}#{anchor}"


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", index)}
    pages = {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.html"), *ROOT.glob("*.md")}
    pages |= {ROOT / "patches" / "README.md", ROOT / "models" / "demo" / "README.md"}
    assert pages - linked == {ROOT / "docs" / "index.md"}


def headings(page):
    """The headings of a page as GitHub links to them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def commands():
    return [(p.name, line) for p in PAGES for line in SHELL.findall(p.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_and_their_options_exist(page, line):
    words = line.split("#")[0].split(" -- ")[0].split()[1:]
    command = cli.get_command(click.Context(cli), words[0])
    if isinstance(command, click.Group) and len(words) > 1:
        command = command.commands[words[1].split("|")[0]]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    for word in words[1:]:
        if word.startswith("-") and word != "--":
            assert word.strip("[]").split("=")[0] in known, f"{page}: {line}"


def test_summaries_are_the_commands_own():
    for name, summary in COMMANDS.items():
        first = cli.get_command(click.Context(cli), name).help.strip().splitlines()[0]
        assert summary == first, name


def test_one_version_everywhere():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project and '[tool.hatch.version]\npath = "ggufrope/__init__.py"' in project
    source = (ROOT / "ggufrope" / "__init__.py").read_text(encoding="utf-8")
    assert f'\n__version__ = "{__version__}"\n' in source, "a literal: hatchling reads it without importing anything"
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^## ([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1] == __version__


@pytest.mark.parametrize("word", ["trust_remote_code", "pickle", "shell=True", "import marshal", " eval(", " exec("])
def test_what_security_says_is_never_done(word):
    """``SECURITY.md``: no code that comes with a model is executed by this package."""
    never = r"def eval\(|allow_pickle=False"
    found = [p for p in (ROOT / "ggufrope").rglob("*.py") if word in re.sub(never, "", p.read_text("utf-8"))]
    assert found == []


def test_torch_loads_tensors_only():
    calls = [c for p in (ROOT / "ggufrope").rglob("*.py") for c in re.findall(r"torch\.load\(.*", p.read_text("utf-8"))]
    assert calls
    assert all("weights_only=True" in call for call in calls)


def test_forms_and_the_workflow_can_be_read():
    yaml = pytest.importorskip("yaml")
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= form.keys(), path.name
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids)), path.name
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert [step["run"] for step in workflow["jobs"]["test"]["steps"] if step.get("run") == ".ci/run"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["cff-version"] == "1.2.0"


def test_architecture_names_files_that_exist():
    """Every path in backticks, from the root. ``NAME`` stands for one that is to be written."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:ggufrope|patches|tests|scripts|docs)/[\w./-]*|[\w-]+\.(?:toml|txt))`", text))
    assert len(paths) > 60
    assert sorted(p for p in paths if "NAME" not in p and not (ROOT / p).exists()) == []


def test_architecture_has_every_part_of_the_package():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    parts = {f"`{p.name}/`" for p in (ROOT / "ggufrope").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert {part for part in parts if f"| {part} |" not in text} == set()


def test_architecture_names_things_that_are_where_it_says():
    """``name`` in ``path``: the word stands in that file."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    placed = re.findall(r"`([\w.]+)`\s+in\s+`((?:ggufrope|patches|tests)/[\w./-]+)`", text)
    assert len(placed) > 10
    missing = [(word, path) for word, path in placed if not re.search(rf"\b{word}\b", (ROOT / path).read_text("utf-8"))]
    assert missing == []

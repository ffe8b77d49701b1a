"""The documentation against the code: generated parts are current, links lead somewhere, commands and options exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ggufrope.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"^    (?:\$ )?(ggufrope [a-z].*)$", re.M)


def test_generated_parts_are_current():
    done = subprocess.run(
        [sys.executable, "scripts/docs", "check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


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

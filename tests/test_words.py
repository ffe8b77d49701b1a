"""The words of the field, in what a person reads: help texts, messages and documentation."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ggufrope.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted((ROOT / "ggufrope").rglob("*.py"))

#: What is not to be read → what to say instead.
INSTEAD = {
    r"hoped( |-)for|hoped": "draft, expected",
    r"doubt(s|ful)?": "margin",
    r"trunks?": "prefix",
    r"sheets?": "sample",
    r"rooms?": "budget, space; or name what does not fit",
    r"makes? of( it)?": "say what is measured or computed",
    r"everything that is drawn|that which is drawn": "random seed",
    r"leave (it|them|\S+) (away|out)": "omit",
    r"says everything": "cannot be combined with --OPTION",
    r"make (\w+ )?ratios up": "generate",
    r"in other words|in words": "say what happens: another wording, an error",
    r"nobody can know": "say what is expected instead",
    r"answers here": "was found",
}
BANNED = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)

#: A page about the packages of the source tree calls them rooms, as the design does.
ALSO_ALLOWED = {"architecture.md": {"room", "rooms"}, "index.md": {"room", "rooms"}}


def banned(text, allowed=frozenset()):
    """Every banned phrase in ``text``, with what is around it; lines are joined, so that a wrapped one is seen."""
    flat = " ".join(text.split())
    return [flat[max(0, m.start() - 30) : m.end() + 30] for m in BANNED.finditer(flat) if m[0].lower() not in allowed]


def command_paths():
    paths = [[], *([name] for name in COMMANDS)]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            paths += [[name, sub] for sub in command.commands]
    return paths


def messages(module):
    """The fixed parts of every string of a module that has words in it; docstrings are for readers of the code."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs and " " in node.value
    ]


@pytest.mark.parametrize("path", command_paths(), ids=lambda path: " ".join(path) or "ggufrope")
def test_help_uses_the_words_of_the_field(path):
    shown = CliRunner().invoke(cli, [*path, "--help"])
    assert shown.exit_code == 0
    assert not banned(shown.output)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_the_words_of_the_field(page):
    assert not banned(page.read_text(encoding="utf-8"), ALSO_ALLOWED.get(page.name, frozenset()))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "ggufrope")))
def test_messages_use_the_words_of_the_field(module):
    assert [found for text in messages(module) if (found := banned(text))] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an answer that was hoped for", 1),
        ("leave --gpu-arch away", 1),
        ("leave it\n  out", 1),
        ("what llama.cpp makes of it", 1),
        ("Doubtful", 1),
        ("a classroom, a spreadsheet, shoulders", 0),
        ("what it is made of; leave fast ones alone", 0),
    ],
)
def test_phrases_are_found_as_whole_words_and_across_lines(text, found):
    assert len(banned(text)) == found


@pytest.mark.parametrize("package", ["evals", "inference", "lm_eval", "validate"])
def test_names_in_code_say_what_they_hold(package):
    """Draft, margin, prefix, sample, budget; and what was found, by what it is."""
    banned_names = {
        "hope",
        "hoped",
        "hoping",
        "doubt",
        "doubtful",
        "trunk",
        "sheet",
        "sheets",
        "room",
        "rooms",
        "found",
    }
    wrong = [
        f"{path.name}:{getattr(node, 'lineno', 0)} {name}"
        for path in sorted((ROOT / "ggufrope" / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (getattr(node, kind, None) for kind in ("id", "attr", "arg", "name"))
        if isinstance(name, str) and name.strip("_").lower() in banned_names
    ]
    assert wrong == []

"""``convert --help`` and ``eval --help``: every option under one heading, parameters by method, with their defaults."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from ggufrope.cli import cli
from ggufrope.methods import METHODS, flag, parameters


def sections(name):
    """Heading → the lines below it."""
    help_text = CliRunner().invoke(cli, [name, "--help"], terminal_width=100, max_content_width=100).output
    found: dict[str, list[str]] = {}
    for line in help_text.splitlines()[1:]:
        if line.endswith(":") and not line.startswith(" "):
            found[line[:-1]] = lines = []
        elif found and line:
            lines.append(line)
    return found


def options(lines):
    return [match[1] for line in lines if (match := re.match(r"  (?:-\w, )?(--[\w-]+)", line))]


def own(method):
    """Flags of the parameters that no other method has."""
    others = {p.name for name, cls in METHODS.items() if name != method for p in parameters(cls)}
    return [flag(p.name) for p in parameters(METHODS[method]) if p.name not in others]


@pytest.mark.parametrize("name", ["convert", "eval"])
def test_every_option_stands_under_one_heading(name):
    listed = [option for lines in sections(name).values() for option in options(lines)]
    command = cli.get_command(click.Context(cli), name)
    declared = [max(p.opts, key=len) for p in command.params if isinstance(p, click.Option)]
    assert sorted(listed) == sorted([*declared, "--help"])


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_own_parameters_stand_under_its_name(method):
    heading = f"Parameters of {method} ({METHODS[method].title})"
    listed = options(sections("convert").get(heading, []))
    assert listed[: len(own(method))] == own(method)
    assert set(listed) <= {*own(method), "--calibrate", "--no-check"}


def test_headings_follow_the_table_of_methods():
    expected = [f"Parameters of {m} ({METHODS[m].title})" for m in METHODS if own(m)]
    assert list(sections("convert")) == [
        "Method",
        "Output",
        "Parameters of several methods",
        *expected,
        "Other options",
    ]


def test_shared_parameters_name_their_methods():
    text = " ".join(" ".join(sections("convert")["Parameters of several methods"]).split())
    assert re.search(r"--granularity FLOAT .*\[dynamic-ntk, yarn, clex\]", text)
    assert text.count("[") == len(options(sections("convert")["Parameters of several methods"]))


@pytest.mark.parametrize("parameter", {p.name: p for cls in METHODS.values() for p in parameters(cls)}.values())
def test_every_parameter_says_its_default(parameter):
    command = cli.get_command(click.Context(cli), "convert")
    shown = next(p.help for p in command.params if p.name == parameter.name)
    assert re.search(r"default|required", shown), shown
    if parameter.name != "factor" and isinstance(parameter.default, (int, float, str)):
        value = parameter.default
        said = {True: "--" + parameter.name, False: "off"}[value] if isinstance(value, bool) else str(value)
        assert re.search(rf"default: {re.escape(said)}( \[|$)", shown), shown


@pytest.mark.parametrize("name", ["convert", "eval"])
def test_the_texts_of_all_groups_start_in_one_column(name):
    starts = {
        match.end()
        for lines in sections(name).values()
        for line in lines
        if (match := re.match(r"  -\S.*?\s{2,}(?=\S)", line))
    }
    assert len(starts) == 1, starts

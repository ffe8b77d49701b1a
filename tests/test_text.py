"""Words and numbers for people."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ggufrope.text import binary_size, counted, did_you_mean, duration, grouped, shorten, size

PACKAGE = Path(__file__).resolve().parents[1] / "ggufrope"


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("yarm", ["yarn", "ntk"], "did you mean yarn?"),
        ("YARM", ["yarn", "ntk"], "did you mean yarn?"),
        ("YARN", ["yarn", "yarns"], "did you mean yarn?"),  # the name itself, in another case: no second guess
        ("path", ["path", "n_batch"], "did you mean path?"),
        ("tool-USE", ["Tool_Use", "rag"], "did you mean Tool_Use?"),  # as it is written, not as it was compared
        ("niahs", ["niah", "niah2", "niah3"], "did you mean niah or niah3?"),  # two at most
        ("zzz", ["yarn", "ntk"], "it is one of yarn, ntk"),
        ("", ["yarn"], "it is one of yarn, ntk"),
        ("yarn", [], "it is one of yarn, ntk"),
        ("yarm", iter(["yarn"]), "did you mean yarn?"),
    ],
)
def test_what_a_name_may_have_been_meant_for(name, known, said):
    assert did_you_mean(name, known, "it is one of yarn, ntk") == said


def test_near_names_are_looked_for_in_one_place():
    users = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(alias.name == "difflib" for alias in node.names)
    ]
    assert users == ["text.py"]


@pytest.mark.parametrize(
    ("n", "decimal", "binary"),
    [
        (0, "0 bytes", "0 B"),
        (999, "999 bytes", "999 B"),
        (1000, "1 kB", "1000 B"),
        (1024, "1.02 kB", "1 KiB"),
        (8_030_000, "8.03 MB", "7.66 MiB"),
        (1_072_693_248, "1.07 GB", "1023 MiB"),  # four digits rather than 1.02e+03
        (2_510_000_000, "2.51 GB", "2.34 GiB"),
        (200_000_000_000, "200 GB", "186 GiB"),
        (3 * 2**40, "3.3e+03 GB", "3 TiB"),
    ],
)
def test_sizes(n, decimal, binary):
    assert (size(n), binary_size(n)) == (decimal, binary)


def test_counts():
    assert [counted(0, "file"), counted(1, "file"), counted(3, "file")] == ["0 files", "1 file", "3 files"]
    assert counted(2, "entry", "entries") == "2 entries"
    assert grouped(1234567) == "1\u202f234\u202f567"
    assert counted(1234, "text") == "1\u202f234 texts"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119.4, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (9000, "2.5 h")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "7"),
        ("a\nb", r"'a\nb'"),
        ([1, 2], "[1, 2]"),
        (None, "None"),
        ("x" * 1000, "'" + "x" * 56 + "..."),
        (list(range(10**6)), repr(list(range(80)))[:57] + "..."),
    ],
)
def test_values_on_one_line(value, said):
    assert shorten(value) == said
    assert len(shorten(value)) <= 60

"""Every place that raises an error is read: its message names the file or the argument, and says what to do.

What the messages come to when they are raised, ``messages`` in conftest.py reads in every test, and once more where
they reach the command line, with its arguments. Here are the places that no test reaches, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from message_rules import FOR_PROGRAMMERS, REMEDY, flaws

from ggufrope import errors

PACKAGE = Path(errors.__file__).parent
KINDS = set(errors.__all__) - {"CheckFailed"}
OF_FILES = {"InputError", "GgufError", "CheckpointError", "OutputError"}
#: Knows values and no files; an ``Edits`` with one of these is a program's mistake.
NO_FILE = {"gguf/values.py"}
HINT = re.compile(r"\{(hint\b.*|(_hint|_last_words|explain)\(.*\))\}$")  # made by functions that end in a remedy


def template(node: ast.expr) -> str | None:
    """A message with its expressions in braces; None if it is made elsewhere."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(p.value if isinstance(p, ast.Constant) else f"{{{ast.unparse(p.value)}}}" for p in parts)
        case ast.BinOp(left=left, right=right):
            parts = [template(left), template(right)]
            return "".join(part or "{}" for part in parts)
    return None


def raised() -> Iterator[tuple[str, str, str, set[str]]]:
    """Module, kind, message, and the exceptions that are being handled there."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            handled = {ast.unparse(node.type)} if isinstance(node, ast.ExceptHandler) and node.type else set()
            for child in ast.walk(node) if handled else [node]:
                if isinstance(child, ast.Call) and child.args and ast.unparse(child.func) in KINDS:
                    text = template(child.args[0])
                    if text is not None:
                        yield name, ast.unparse(child.func), text, handled


def carries_its_own(text: str, handled: set[str]) -> bool:
    """Whether a message ends in one that has its own remedy: a hint, or an error of ours that is renamed."""
    if HINT.search(text):
        return True
    return text.endswith("{error}") and any(kind in part for part in handled for kind in KINDS)


def test_places_that_raise() -> None:
    sites = list(raised())
    assert len(sites) > 400
    inside = {(name, text) for name, _, text, handled in sites if handled and carries_its_own(text, handled)}
    wrong = []
    for name, kind, text, handled in sites:
        if name in FOR_PROGRAMMERS or (name, text) in inside:
            continue
        if not REMEDY.search(re.sub(r"\{[^{}]*\}", "X", text)) and not carries_its_own(text, handled):
            wrong.append(f"{name}: {kind}: no remedy: {text}")
        if kind in OF_FILES and name not in NO_FILE and not text.startswith("{"):
            wrong.append(f"{name}: {kind}: does not begin with a file: {text}")
    assert not wrong, "\n".join(sorted(set(wrong)))


@pytest.mark.parametrize(
    ("message", "arguments", "wrong"),
    [
        ("a.gguf: no key llama.block_count; convert it again", ["inspect", "a.gguf"], None),
        ("--factor -1: it must be above 0", ["convert", "a.gguf", "--factor", "-1"], None),
        ("no method given: add --method M", ["convert", "a.gguf"], None),
        ("a.gguf: no key llama.block_count", ["inspect", "a.gguf"], "no remedy"),
        ("yarn: factor 0; it must be above 0", ["convert", "a.gguf"], "names no file"),
        ("/x/.out.gguf-k3jx_9ab/weights.gguf: no key; convert it again", ["convert", "/x"], "nobody gave"),
        ("b.gguf: a key is missing; convert it again", ["inspect", "a.gguf"], "names no file"),
        ("set-00002-of-00002.gguf: no such file; give it", ["inspect", "set-00001-of-00002.gguf"], None),
    ],
)
def test_the_rules_themselves(message: str, arguments: list[str] | None, wrong: str | None) -> None:
    found = flaws(message, arguments)
    assert bool(found) is bool(wrong), found
    assert wrong is None or wrong in found[0]


def test_errors_are_renamed_once() -> None:
    error = errors.ParameterError("yarn: factor 0; it must be above 0")
    assert str(error.about("a.gguf")) == "a.gguf: yarn: factor 0; it must be above 0"
    assert type(error.about("a.gguf")) is errors.ParameterError
    assert str(error.about("a.gguf").about("a.gguf")) == str(error.about("a.gguf"))
    assert str(errors.UsageError("--factor: drop it").about("a.gguf")) == "--factor: drop it"

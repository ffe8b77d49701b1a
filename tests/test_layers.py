"""Imports go one way: each room may use those listed before it, and only some may touch torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ggufrope"

#: From the ground up. A module may import from its own room and from rooms above it in this list.
ROOMS = [
    ["errors", "files", "last_words", "late", "text"],
    ["rope"],
    ["methods"],
    ["gguf"],
    ["modelfile"],
    ["inspection"],
    ["runtime"],
    ["inference"],
    ["calibrate"],
    ["convert"],
    ["planning"],
    ["reference"],
    ["validate"],
    ["evals"],
    ["report", "lm_eval", "check"],
    ["tune"],
    ["cli", "supervisor", "__main__"],
    ["__init__"],
]
LEVEL = {room: level for level, row in enumerate(ROOMS) for room in row}
NUMPY_ONLY = ["errors", "files", "last_words", "late", "text", "rope", "methods", "gguf", "modelfile", "planning"]


def modules():
    return [p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts]


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """(dotted name, whether at the top of the module) of everything ``path`` imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ["ggufrope", *path.relative_to(PACKAGE).parent.parts]
            base = parent[: len(parent) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            if name == "ggufrope":  # `from ggufrope import keys`
                yield from ((f"ggufrope.{alias.name}", id(node) in top) for alias in node.names)
            else:
                yield name, id(node) in top


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_up_the_list(path):
    assert room(path) in LEVEL, f"{path.name} is a new room: give it a row"
    for name, _ in imported(path):
        parts = name.split(".")
        if parts[0] == "ggufrope" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[room(path)], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) in NUMPY_ONLY], ids=lambda p: p.name)
def test_the_core_needs_numpy_alone(path):
    outside = {n.split(".")[0] for n, _ in imported(path)} - set(sys.stdlib_module_names) - {"ggufrope", "numpy"}
    assert outside <= {"typing_extensions"}  # for type checkers only


def test_the_reference_shares_nothing_with_what_it_checks():
    forbidden = {"rope", "methods", "gguf", "modelfile", "convert", "calibrate"}
    for path in (PACKAGE / "reference").rglob("*.py"):
        used = {n.split(".")[1] for n, _ in imported(path) if n.startswith("ggufrope.")}
        assert not used & forbidden, path


def test_a_module_name_is_used_once():
    """``plan.py`` in three rooms says nothing in a traceback or a diff. Commands are called as their rooms are."""
    names = [p.stem for p in modules() if p.stem != "__init__" and room(p) != "cli"]
    assert [n for n, times in Counter(names).items() if times > 1] == []


def test_a_class_name_is_used_once():
    trees = [ast.parse(p.read_text(encoding="utf-8")) for p in modules()]
    names = [n.name for tree in trees for n in tree.body if isinstance(n, ast.ClassDef)]
    assert [n for n, times in Counter(names).items() if times > 1] == []


def test_help_loads_neither_numpy_nor_torch():
    code = """
import sys, ggufrope.cli
ggufrope.cli.main(["--help"])
print(sorted({"numpy", "torch", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_errors_export_exactly_their_classes():
    from ggufrope import errors

    classes = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert set(errors.__all__) == classes
    tree = errors.__doc__
    assert all(name in tree for name in classes)

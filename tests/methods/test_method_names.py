"""Outside ``methods/`` nobody asks which method it has: the source is read for names, classes and modules of methods.

What a method is to the rest of the package stands in its ``traits``. Prose (docstrings, help, messages) may name it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ggufrope.methods import METHODS, PLAIN

PACKAGE = Path(__file__).resolve().parents[2] / "ggufrope"

#: What may name methods, and why. Keep it short.
REGISTRIES = {
    "methods": "where methods are",
    "reference": "the independent oracle: its formulas have a registry of their own and share nothing with methods/",
    "planning/evidence.py": "published numbers, each under the method that it was measured with",
    "planning/measured.py": "measured figures, written by scripts/docs, each under the row that it comes from",
    "rope/stock.py": "llama.cpp's values of rope.scaling.type, three of which are called like methods",
    "convert/clex_solver.py": "solves the layer of one method with torch, which methods/ may not know",
}

#: ``none`` means much else (no chat template, no RoPE, a content policy), and so does ``table``: asking for them is
#: naming a method only where a method is compared with them.
COMMON = {PLAIN, "table"}
WORDS = set(METHODS) - COMMON
MODULES = {cls.__module__ for cls in METHODS.values()}
CLASSES = {cls.__name__ for cls in METHODS.values()}


def read():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not any(name == r or name.startswith(f"{r}/") for r in REGISTRIES):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def named(tree: ast.AST):
    """(line, what) of everything that names a method."""
    prose = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef)) and n.body and isinstance(n.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            if node.value in WORDS or any(node.value.startswith(f"{name}+") for name in METHODS):
                yield node.lineno, node.value
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asked = {getattr(s, "attr", getattr(s, "id", "")) for s in sides}
            flat = [c for s in sides for c in (s.elts if isinstance(s, (ast.Tuple, ast.List, ast.Set)) else [s])]
            found = [c.value for c in flat if isinstance(c, ast.Constant) and c.value in COMMON]
            if asked & {"method", "name", "head", "base"} and found:
                yield node.lineno, f"a comparison with '{found[0]}'"
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name in MODULES)
        elif isinstance(node, ast.Name) and node.id in CLASSES:
            yield node.lineno, node.id


def test_nobody_asks_which_method_it_has():
    assert [f"{name}:{line}: {what}" for name, tree in read() for line, what in named(tree)] == []


@pytest.mark.parametrize("name", [r for r in REGISTRIES if r != "methods"])
def test_every_exception_is_needed(name):
    path = PACKAGE / name
    files = [path] if path.is_file() else path.rglob("*.py")
    assert any(list(named(ast.parse(file.read_text(encoding="utf-8")))) for file in files), f"take {name} off the list"


@pytest.mark.parametrize(
    "code",
    [
        'x = name == "yarn"',
        'name.startswith("ms-poe+")',
        'if decoded.method == "none": pass',
        'if decoded.method == "table": pass',
        'name.startswith("table+")',
        'if now.method not in ("none", other): pass',
        "from ggufrope.methods.yarn import anything",
        "import ggufrope.methods.yarn",
        "def f(m):\n    return isinstance(m, LongRope)",
    ],
)
def test_what_counts_as_naming(code):
    assert list(named(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        '"""yarn"""',
        'x = "none"',
        'tag == "table"',
        'chat == "none"',
        'error("use yarn or ntk")',
        "from ggufrope.methods import x",
    ],
)
def test_what_does_not(code):
    assert not list(named(ast.parse(code)))

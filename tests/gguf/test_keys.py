"""Every GGUF key and tensor name stands once, in ``gguf/keys.py``: the source is read for others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ggufrope.gguf import keys

PACKAGE = Path(keys.__file__).parents[1]

#: Files whose sentences may name keys, and that read none: ``rope/`` stands beneath ``gguf/``; what foreign programs
#: refuse is told in the words that people search for.
EXCEPTIONS = {"rope/model.py", "rope/stock.py", "modelfile/foreign_runtimes.py"}
_NAMES = [name for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)]
#: Everything with a point in it that keys.py names, without the architecture.
_KNOWN = {getattr(keys, name).removeprefix("{arch}.").rstrip(".") for name in _NAMES} - {keys.PREFIX.rstrip(".")}
_OURS = [
    *(rf"\b{re.escape(known)}\b" for known in _KNOWN if "." in known),
    r"(?<![\w./])(?:general|tokenizer|split|blk|rope|attention|ssm)\.[a-z{]",
    r"[a-z0-9_}]\.(?:weight|bias)\b",
    r"\{arch\}\.[a-z_{]",
]
LOOKS_LIKE_A_KEY = re.compile("|".join(_OURS))


def texts(tree):
    """(line, text) of every string that is no docstring; what an f-string fills in is ``{}`` or ``{arch}``."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(_part, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | prose:
            yield node.lineno, node.value


def _part(node):
    if isinstance(node, ast.Constant):
        return node.value
    source = ast.unparse(node.value)
    return "{arch}" if source.endswith(("arch", "architecture")) else "{}"


def found(path):
    for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
        hit = LOOKS_LIKE_A_KEY.search(text)
        if hit:
            yield f"{path.relative_to(PACKAGE)}:{line}: {text!r}"


@pytest.mark.parametrize(
    "path",
    [p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).as_posix() not in EXCEPTIONS | {"gguf/keys.py"}],
    ids=lambda p: str(p.name),
)
def test_keys_are_spelled_in_keys_py_alone(path):
    assert list(found(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        'x = get(f"{arch}.attention.head_count")',
        'x = get(f"{model.arch}.{name}")',
        'x = get(f"{source.architecture}.block_count is 0")',
        'x = "attention.sliding_window"',
        'x = "tokenizer.ggml." + name',
        'x = get("general.file_type", -1)',
        'x = f"{path}: general.new_key is odd"',
        'x = "split.count"',
        'x = f"blk.{i}.attn_q.weight"',
        'x = f"{stem}.weight"',
        'x = "token_embd.weight"',
        'x = "ggufrope.head_factors"',
    ],
)
def test_a_key_elsewhere_would_be_seen(line):
    assert any(LOOKS_LIKE_A_KEY.search(text) for _, text in texts(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        '"""general.architecture is spoken of here."""',
        'x = "config.json"',
        'x = "ggufrope.cli."',
        'x = f"{value:.3f}"',
        'x = "The split. Next sentence."',
        'x = f"{path.name}.partial"',
        'x = "`ggufrope.load` keeps the general. rule"',
    ],
)
def test_other_texts_are_none(line):
    assert not any(LOOKS_LIKE_A_KEY.search(text) for _, text in texts(ast.parse(line)))


def test_no_key_is_there_twice():
    values = [getattr(keys, name) for name in _NAMES]
    assert len(values) == len(set(values))
    assert {key.name for key in keys.KEYS} <= set(values)


def test_an_architecture_is_filled_in():
    assert keys.stock(keys.HEAD_COUNT, "llama") == "llama.attention.head_count"
    assert keys.stock(keys.ARCHITECTURE, "llama") == "general.architecture"

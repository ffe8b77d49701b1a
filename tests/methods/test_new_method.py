"""A new method on existing axes is three files: its own, a line in ``METHODS``, a line in ``SAMPLES``. It is tried."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf_builder as gb
import pytest

ROOT = Path(__file__).resolve().parents[2]

TOY = '''
"""``toy``: for the test of how a method is added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggufrope.late import np
from ggufrope.methods.protocol import Method, option, reach
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable


@dataclass(frozen=True, slots=True)
class Toy(Method):
    """Divide pair i by a power of i.

    Nobody published it (not on arXiv).
    """

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy scaling"
    paper: ClassVar[str] = "not on arXiv"

    toy_reach: float = option(1.0, "divisor of the slowest pair")

    def __post_init__(self) -> None:
        reach(self.name, self.toy_reach)

    def table(self, model: ModelRope) -> RopeTable:
        return RopeTable.uniform(self.toy_reach ** np.linspace(0, 1, model.n_pairs))
'''


def insert(path, before, line):
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, line + before), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the package, its matrix and ``scripts/docs``, with three files changed."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("ggufrope", "scripts", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "ggufrope/methods/toy.py").write_text(TOY.lstrip(), encoding="utf-8")
    methods, matrix = root / "ggufrope/methods/__init__.py", root / "tests/methods/test_matrix.py"
    insert(methods, "from ggufrope.methods.yarn import Yarn", "from ggufrope.methods.toy import Toy\n")
    insert(methods, "MsPoe)\n", "Toy, ")
    insert(matrix, '    "ms-poe": ({', '    "toy": ({"toy_reach": 4.0}, {"toy_reach": 1.0}),\n')
    return root


@pytest.fixture(scope="module")
def run(tree):
    def run(*words):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "scripts"), str(tree / "tests")])}
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=tree, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("name", ["toy", "ms-poe+toy"])
def test_option_keys_and_json(run, tmp_path, name):
    source, out = tmp_path / "tiny.gguf", tmp_path / "out.gguf"
    source.write_bytes(gb.tiny_llama())
    run("-m", "ggufrope", "convert", source, "-o", out, "--method", name, "--toy-reach", "4")
    found = json.loads(run("-m", "ggufrope", "inspect", out, "--json"))
    params = found["params"]
    assert (found["method"], params.get("base", params)) == (name, {"toy_reach": 4.0})
    plain = 10000.0 ** -(0.25 * 3)
    assert found["frequencies"][0][3] == pytest.approx(plain / 4, rel=1e-6)


def test_lists_of_methods(run):
    assert "toy       Toy scaling (not on arXiv)\n          Divide pair i by a power of i." in run(
        "-m", "ggufrope", "methods"
    )
    assert json.loads(run("-m", "ggufrope", "methods", "--json"))["toy"]["parameters"] == {
        "toy_reach": "divisor of the slowest pair"
    }
    assert "--toy-reach" in run("-m", "ggufrope", "convert", "--help")
    code = "import runpy; print(runpy.run_path('scripts/docs')['methods']())"
    assert "| `toy` | Divide pair i by a power of i. | `--toy-reach` | not on arXiv |" in run("-c", code)


def test_the_matrix_asks_it_everything(run):
    said = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "toy", "tests/methods/test_matrix.py")
    assert int(said.rpartition(" passed")[0].split()[-1]) >= 11

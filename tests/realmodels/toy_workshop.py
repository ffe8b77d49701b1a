"""A workshop whose commands are carried out here: real conversions of a toy, made-up quantization and answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import gguf_builder as gb
from fake_engine import FakeEngine
from real_models import declared_grid
from real_models.derived_files import Workshop
from real_models.pinned_models import MODELS

from ggufrope.cli import eval as eval_command
from ggufrope.cli import main
from ggufrope.cli._eval_options import make_order
from ggufrope.evals.grid import plan
from ggufrope.evals.results import RuntimeFacts
from ggufrope.evals.runner import run
from ggufrope.evals.store import Store

RUNTIME = RuntimeFacts("cpu", "0123", None, None)
TYPES = {"F16": 1, "Q4_1": 3, "Q8_0": 7, "Q4_K_M": 15, "Q3_K_M": 12, "Q2_K": 10}  # general.file_type


def gguf(kind: str, seed: int = 0) -> bytes:
    """Slow enough pairs for W=256, and a context for everything in the grid."""
    numbers = {
        "context_length": 8192, "embedding_length": 256, "block_count": 4, "feed_forward_length": 64,
        "attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 64,
    }  # fmt: skip
    entries = gb.llama_entries(**numbers)
    return gb.build([*entries, gb.entry("general.file_type", gb.U32, TYPES[kind])], gb.tiny_tensors(seed))


def grid_model(monkeypatch, cache: Path):
    """A toy in the place of SmolLM2, published and in the cache."""
    toy = replace(MODELS["smollm2"], written_out=1000)
    monkeypatch.setattr(declared_grid, "MODELS", {"smollm2": toy})
    toy.path(cache).parent.mkdir(parents=True)
    toy.path(cache).write_bytes(gguf("Q4_1"))
    return toy


class Commands:
    """In the place of ``run_command``: counts, and stops before the ``stop``-th evaluation."""

    def __init__(self, stop: int = 99):
        self.stop, self.said = stop, []

    def __call__(self, words):
        getattr(self, words[0])(words)
        self.said.append(words)

    def quantize(self, words):
        source, out, kind = words[1:4]
        Path(out).write_bytes(gguf(kind))
        assert Path(source).exists()
        assert ("--allow-requantize" in words) == (kind == "F16")

    def calibrate(self, words):
        out = Path(words[words.index("-o") + 1])
        rows = [[1.0, 1.0]] * 2 + [[1.2, 1.5]] * 2 if "code" in words else [[1.0, 1.0]] * 2 + [[1.5, 1.2]] * 2
        out.write_text(f'{{"ratios": {rows}}}')

    def convert(self, words):
        assert main(words) == 0

    def eval(self, words):
        if sum(w[0] == "eval" for w in self.said) == self.stop:
            raise KeyboardInterrupt
        grid = plan(order_of(words), RUNTIME)
        with Store(Path(words[words.index("-o") + 1])) as store:
            list(run(grid, RUNTIME, store, open_engine=FakeEngine))

    @property
    def evaluated(self):
        return [Path(words[1]).name for words in self.said if words[0] == "eval"]


def order_of(words):
    """What `ggufrope eval` makes of its command line."""
    given = eval_command.command.make_context("eval", words[1:]).params
    return make_order(given.pop("files"), given)


def workshop(cache: Path, commands: Commands, data: Path | None = None) -> Workshop:
    return Workshop(cache, data, commands)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)

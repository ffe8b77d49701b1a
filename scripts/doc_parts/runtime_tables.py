"""Which runtimes apply what: the README's table, and the one of the other programs that were measured."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from ggufrope.convert.conversion import Conversion, plan
from ggufrope.methods.clex import ClexTable
from ggufrope.modelfile.foreign_runtimes import RUNTIMES, FileKind, Outcome
from ggufrope.modelfile.model_file import ModelFile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import gguf_builder as gb  # it needs the path

__all__ = ["honours", "runtimes"]

#: README's rows: what is written, and conversions that stand for it: (architecture, method, parameters, sentinel).
_LISTS = {"factor": 2.0, "short_factor": (1.0,) * 4, "long_factor": (1.0, 2.0, 3.0, 4.0)}
_TWICE, _RAMP = {"factor": 2.0}, {"factor": 2.0, "beta_fast": 8.0, "beta_slow": 0.05}
HONOURS: dict[str, list[tuple[str, str, dict[str, Any], bool]]] = {
    "`none`, `linear`, `ntk`, `yarn` with its usual parameters": [
        (arch, name, _TWICE if name != "none" else {}, False)
        for arch in ("llama", "qwen2")
        for name in ("none", "linear", "ntk", "yarn")
    ],
    "`llama3`, `yarn` with other parameters, where the architecture loads factor tensors (Llama, Mistral 3, Granite)": [
        ("llama", "llama3", _TWICE, False), ("granite", "llama3", _TWICE, False), ("llama", "yarn", _RAMP, False),
        ("mistral3", "llama3", _TWICE, False),
    ],
    "the same on other architectures (Qwen, ...)": [
        ("qwen2", "llama3", _TWICE, False), ("qwen2", "yarn", _RAMP, False), ("qwen3", "llama3", _TWICE, False),
    ],
    "`dynamic-ntk`, `clex`, `yarn --dynamic`": [
        ("llama", "dynamic-ntk", _TWICE, False), ("llama", "yarn", _TWICE | {"dynamic": True}, False),
        ("llama", "clex", {"clex_from": ClexTable(((1.0, 0.1, 0.01, 0.001), (1.0, 0.08, 0.006, 0.0005)), 64)}, False),
    ],
    "`longrope` where the architecture loads its lists (Phi-3, Llama, ...); elsewhere as the line above": [
        ("phi3", "longrope", _LISTS, False), ("llama", "longrope", _LISTS, False),
    ],
    "`ms-poe`": [("llama", "ms-poe", {}, False), ("qwen2", "ms-poe", {}, False)],
    "`ms-poe+yarn`, `ms-poe+ntk`, ...": [
        ("llama", f"ms-poe+{base}", _TWICE, False) for base in ("yarn", "ntk", "linear", "llama3")
    ],
    "anything with `--require-patched`": [
        ("llama", name, {} if name in ("none", "ms-poe") else _TWICE, True) for name in ("none", "yarn", "ms-poe")
    ],
}  # fmt: skip


def honours() -> str:
    """Who honours what ``convert`` writes: the verdict on a conversion of a tiny model for each line."""
    rows = ["| written by `convert` | stock llama.cpp | the patched llama.cpp |", "|---|---|---|"]
    for label, samples in HONOURS.items():
        said = {_cells(_planned(*sample)) for sample in samples}
        if len(said) != 1:
            raise SystemExit(f"README, who honours what: {label} is more than one line: {sorted(said)}")
        rows.append(f"| {label} | {' | '.join(said.pop())} |")
    return "\n".join(rows) + "\n"


def _planned(arch: str, name: str, params: dict[str, Any], sentinel: bool) -> Conversion:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        path.write_bytes(gb.build(gb.llama_entries(arch), gb.tiny_tensors()))
        return plan(ModelFile.open(path), name, params, require_patched=sentinel)


def _cells(made: Conversion) -> tuple[str, str]:
    stock = made.verdict.stock.value + " with an error" * (made.verdict.stock is Outcome.REFUSES)
    return stock, made.verdict.patched.value + ": by the length in use" * made.by_length


def runtimes() -> str:
    """What other programs were measured to do."""
    rows = ["| | " + " | ".join(kind.value for kind in FileKind) + " | |", "|---" * (len(FileKind) + 2) + "|"]
    for runtime in RUNTIMES:
        letters = " | ".join(runtime.on(kind).letter for kind in FileKind)
        rows.append(f"| {runtime} | {letters} | {runtime.notes} |")
    legend = ", ".join(f"{o.letter} {o.value}" for o in Outcome if o is not Outcome.NOT_MEASURED)
    return "\n".join([*rows, "", legend + "."]) + "\n"

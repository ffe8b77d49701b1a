"""Edited files on the real loaders: what we say of each is what the patched and the stock llama.cpp do with it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import gguf_builder as gb
import numpy as np
import pytest
from llama_process import run_job
from load_files import Loaded, load_files
from tiny_transformer import ARCHITECTURES, TinyModel

from ggufrope.cli import main
from ggufrope.modelfile.loading import RULES, Form, faults
from ggufrope.modelfile.model_file import ModelFile

TYPES = (gb.F32, gb.F64, gb.U32, gb.I32, gb.U64, gb.U8, gb.BOOL, gb.STR)
#: Besides those that stand in a tiny model.
VALUES = {"rope.scaling.type": "none", "rope.freq_base": 10000, "attention.sliding_window": 16}
#: What the loader says of types, in its several readers.
OF_TYPES = re.compile("wrong type|wrong array|array key not found|is not a string/float32")
#: Values of a good type, and what each llama.cpp does: (key, type, value, outcome of llama, of qwen2).
ODD = [
    ("rope.dimension_count", gb.U32, 16, "refuses", "aborts"),
    ("rope.dimension_count", gb.U32, 0, "refuses", "aborts"),
    ("rope.dimension_count", gb.U32, 3, "refuses", "aborts"),
    ("rope.dimension_count", gb.U32, 64, "refuses", "aborts"),
    ("rope.scaling.type", gb.STR, "spiral", "aborts", "aborts"),
    ("nextn_predict_layers", gb.U32, 9, "aborts", "aborts"),
    ("block_count", gb.U32, 0, "aborts", "aborts"),
    ("block_count", gb.U32, 513, "aborts", "aborts"),
    ("context_length", gb.U32, 0, "loads", "loads"),
    ("context_length", gb.U32, 2**32 - 1, "loads", "loads"),
    ("rope.scaling.factor", gb.F32, float("nan"), "loads", "loads"),
    ("rope.scaling.factor", gb.F32, -1.0, "loads", "loads"),
    ("rope.scaling.attn_factor", gb.F32, 0.0, "loads", "loads"),
    ("rope.freq_base", gb.F32, 0.0, "loads", "loads"),
    ("rope.scaling.original_context_length", gb.U32, 0, "loads", "loads"),
]


def model(arch: str) -> TinyModel:
    return TinyModel(arch, n_layer=1, n_head=2, n_head_kv=1, head_dim=32, n_ff=32, n_vocab=32)


def with_key(tiny: TinyModel, name: str, entry: bytes) -> bytes:
    """The file of a tiny model with one key replaced or added."""
    label = gb.string(name)
    entries = [e for e in _entries(tiny) if not e.startswith(label)]
    return gb.build([*entries, entry], list(tiny.weights.items()))


def _entries(tiny: TinyModel) -> list[bytes]:
    arch = tiny.arch
    numbers = {
        "context_length": tiny.n_ctx, "embedding_length": tiny.n_embd, "block_count": tiny.n_layer,
        "feed_forward_length": tiny.n_ff, "attention.head_count": tiny.n_head,
        "attention.head_count_kv": tiny.n_head_kv, "rope.dimension_count": tiny.n_rot, "vocab_size": tiny.n_vocab,
    }  # fmt: skip
    return [
        gb.entry("general.architecture", gb.STR, arch),
        *(gb.entry(f"{arch}.{name}", gb.U32, number) for name, number in numbers.items()),
        gb.entry(f"{arch}.attention.layer_norm_rms_epsilon", gb.F32, 1e-5),
        gb.entry(f"{arch}.rope.freq_base", gb.F32, tiny.freq_base),
        gb.entry("tokenizer.ggml.model", gb.STR, "no_vocab"),
    ]


def mistyped(arch: str) -> list[tuple[str, bytes]]:
    """Every key of the rules in every type, as (name, entry)."""
    tiny = model(arch)
    present = {"context_length": tiny.n_ctx, "embedding_length": tiny.n_embd, "block_count": 1,
               "attention.head_count": 2, "attention.head_count_kv": 1, "rope.dimension_count": tiny.n_rot,
               "attention.key_length": 32, "attention.value_length": 32, **VALUES}  # fmt: skip
    made = []
    for name in sorted({rule.key.removeprefix("{arch}.") for rule in RULES}):
        value = present.get(name, 0 if "layers" in name or "block" in name else 1)
        for kind in TYPES:
            stored = {gb.STR: str(value), gb.BOOL: bool(value)}.get(kind, 1 if isinstance(value, str) else value)
            stored = stored % 256 if kind == gb.U8 else stored
            made.append((name, gb.entry(f"{arch}.{name}", kind, stored)))
        number = 1 if isinstance(value, str) else value
        made += [(name, gb.entry(f"{arch}.{name}", gb.ARR, [number], item)) for item in (gb.U32, gb.U64, gb.F32)]
        made.append((name, gb.entry(f"{arch}.{name}", gb.ARR, [number] * 2, gb.I32)))
    return made


def written(folder: Path, arch: str, cases: list[tuple[str, bytes]]) -> list[Path]:
    tiny, paths = model(arch), []
    for i, (name, entry) in enumerate(cases):
        paths.append(folder / f"{arch}-{i}.gguf")
        paths[-1].write_bytes(with_key(tiny, f"{arch}.{name}", entry))
    return paths


def refused_for_a_type(found: Loaded) -> bool:
    return found.outcome == "refuses" and bool(OF_TYPES.search(found.words))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_types(runtime_dir, stock_dir, tmp_path, arch):
    """The loaders refuse a key for its type where, and only where, we say so; and load what was repaired."""
    cases = mistyped(arch)
    paths = written(tmp_path, arch, cases)
    said = [[fault for fault in faults(ModelFile.open(path)) if "llama.cpp takes " in str(fault)] for path in paths]
    for library in (runtime_dir, stock_dir):
        found = load_files(library, paths)
        different = [
            (name, entry, tell, does)
            for (name, entry), tell, does in zip(cases, said, found, strict=True)
            if bool(tell) != refused_for_a_type(does)
        ]
        assert not different
    assert 100 < sum(map(bool, said)) < len(cases) - 100
    repaired = []
    for path, tell in zip(paths, said, strict=True):
        if tell and all(fault.repair for fault in tell):
            out = path.with_suffix(".out.gguf")
            code = main(["convert", str(path), "-o", str(out), "--method", "none"])
            repaired += [out] if code == 0 else []
    assert len(repaired) > 60
    wrong = [
        (path.name, does) for path, does in zip(repaired, load_files(runtime_dir, repaired), strict=True)
        if does.outcome != "loads"
    ]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_odd_values(runtime_dir, stock_dir, tmp_path, capsys, arch):
    cases = [(name, gb.entry(f"{arch}.{name}", kind, value)) for name, kind, value, *_ in ODD]
    paths = written(tmp_path, arch, cases)
    expected = [odd[4 if arch == "qwen2" else 3] for odd in ODD]
    for library in (runtime_dir, stock_dir):
        found = load_files(library, paths)
        assert [does.outcome for does in found] == expected
    for path, outcome in zip(paths, expected, strict=True):
        code, shown = main(["inspect", str(path)]), capsys.readouterr()
        assert outcome == "loads" or code == 2 or "in full" not in shown.out
        assert code == 0 or str(path) in shown.err


FREQS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_tensors(runtime_dir, stock_dir, tmp_path, arch):
    """Each combination of tensors and type, also of a wrong size."""
    tiny, paths = model(arch), []
    half = tiny.n_rot // 2
    for kind in (None, "yarn", "longrope"):
        for i, names in enumerate([[FREQS], [SHORT, LONG], [FREQS, SHORT, LONG], []]):
            for size in (half, half + 1) if names else (half,):
                tensors = [(name, np.ones(size, np.float32)) for name in names]
                typed = [gb.entry(f"{arch}.rope.scaling.type", gb.STR, kind)] if kind else []
                paths.append(tmp_path / f"{arch}-{kind}-{i}-{size}.gguf")
                paths[-1].write_bytes(tiny.file(typed, tensors))
    said = ["refuses" if faults(ModelFile.open(path)) else "loads" for path in paths]
    for library in (runtime_dir, stock_dir):
        assert [does.outcome for does in load_files(library, paths)] == said
    assert set(said) == {"refuses", "loads"}


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_another_base(runtime_dir, stock_dir, tmp_path, arch):
    """``none --freq-base`` rotates by it, on both runtimes, whatever the file's base was."""
    tiny = TinyModel(arch)
    tokens = [int(t) for t in np.random.default_rng(3).integers(0, tiny.n_vocab, 40)]
    wanted = replace(tiny, freq_base=500000.0).logits(tokens)
    assert np.abs(wanted - tiny.logits(tokens)).max() > 0.1
    for i, base in enumerate((10000.0, 0.0, float("nan"))):
        path, out = tmp_path / f"{i}.gguf", tmp_path / f"{i}-out.gguf"
        path.write_bytes(replace(tiny, freq_base=base).file())
        assert main(["convert", str(path), "-o", str(out), "--method", "none", "--freq-base", "500000"]) == 0
        for library in (runtime_dir, stock_dir):
            (logits,) = run_job(library, out, [["eval", tokens, 0, 0]]).arrays
            assert np.abs(logits - wanted).max() < 2e-4


def test_a_base_that_is_missing_is_10000(runtime_dir, stock_dir, tmp_path):
    tiny, path = TinyModel("qwen2"), tmp_path / "model.gguf"
    label = gb.string("qwen2.rope.freq_base")
    path.write_bytes(gb.build([e for e in _entries(tiny) if not e.startswith(label)], list(tiny.weights.items())))
    tokens = list(range(40))
    for library in (runtime_dir, stock_dir):
        (logits,) = run_job(library, path, [["eval", tokens, 0, 0]]).arrays
        assert np.abs(logits - tiny.logits(tokens)).max() < 2e-4


def test_forms_are_all_tried():
    assert {rule.form for rule in RULES} == set(Form)

"""Every architecture with sliding windows: what stock's keys do in it, as the table says, done by rows of ours.

A toy model of each one runs with upstream's keys, and without them, with rows for the layers and numbers that
``StockRope.table`` computes from these keys. Both must give the same logits: so the facts of the architecture, the
table, the keys and the runtime agree with what llama.cpp's own graph does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from llama_process import run_job

from ggufrope.errors import NotHonouredError
from ggufrope.gguf import TypedValue, ValueType, keys, read_header
from ggufrope.gguf.rewrite import rewrite
from ggufrope.modelfile.encoded import encode_identity, encode_rows
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope import architectures
from ggufrope.rope.stock import StockRope
from ggufrope.runtime.locate import Runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts/studies"))
from arch_matrix.driver import NoCompilerError, compile_toys

pytestmark = pytest.mark.slow

TOKENS = np.random.default_rng(5).integers(3, 100, 60).tolist()
CONTEXT = 512
#: Upstream's keys, and what ``StockRope`` calls them.
SETTINGS = {
    "linear": StockRope(scaling_type="linear", factor=2.0),
    "attention": StockRope(attn_factor=1.3),
    "base": StockRope(freq_base=300.0),
    "yarn": StockRope(scaling_type="yarn", factor=4.0, original_ctx=32),
}
#: Not EXAONE 4, whose windows need 64 layers, nor encoders.
OTHERS = {"exaone4", "modern-bert", "gemma-embedding"}
WINDOWED = sorted({*architectures.SLIDING_PERIOD, *architectures.SLIDING_ARRAY, "lfm2"} - OTHERS)


def stock_keys(stock: StockRope, arch: str) -> dict[str, TypedValue]:
    numbers = {keys.ATTN_FACTOR: stock.attn_factor, keys.SCALING_FACTOR: stock.factor}
    put = {k: TypedValue(ValueType.FLOAT32, v) for k, v in numbers.items() if v != 1.0}
    if stock.freq_base:
        put[keys.FREQ_BASE] = TypedValue(ValueType.FLOAT32, stock.freq_base)
    if stock.scaling_type:
        put[keys.SCALING_TYPE] = TypedValue(ValueType.STRING, stock.scaling_type)
    if stock.original_ctx:
        put[keys.ORIGINAL_CONTEXT] = TypedValue(ValueType.UINT32, stock.original_ctx)
    return {keys.stock(k, arch): v for k, v in put.items()}


@pytest.fixture(scope="module")
def toys(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    try:
        program = compile_toys(Runtime.read(runtime_dir) or pytest.skip("no build"), folder)
    except NoCompilerError as error:
        pytest.skip(str(error))
    command = [program, "save", folder, f"^({'|'.join(WINDOWED)})$"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(runtime_dir), "DYLD_LIBRARY_PATH": str(runtime_dir)}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return folder


def variant(toy: Path, out: Path, *, keyed: bool) -> ModelFile:
    """The toy with another base for windows, or with none of its own; its own factors are made ones that divide."""
    header = read_header(toy)
    base = keys.stock(keys.FREQ_BASE_SLIDING, header.architecture)
    rewrite(
        header,
        out,
        set={base: TypedValue(ValueType.FLOAT32, 700.0)} if keyed else {},
        remove=set() if keyed else {base},
    )
    header = read_header(out)
    if factors := header.tensor(keys.ROPE_FREQS):
        with out.open("r+b") as file:
            file.seek(header.data_offset + factors.offset)
            file.write(np.linspace(0.8, 1.5, factors.nbytes // 4, dtype="<f4").tobytes())
    return ModelFile.open(out)


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("arch", WINDOWED)
def test_rows_do_what_stock_s_keys_do(runtime_dir: Path, toys: Path, tmp_path: Path, arch: str, keyed: bool) -> None:
    toy = next(iter(sorted(toys.glob(f"{arch}-*.gguf"))), None)
    if toy is None:
        pytest.skip("upstream's test makes no toy of it")
    if arch == "dots3note" and not keyed:
        pytest.skip("it needs the key")
    source = tmp_path / "source.gguf"
    model = variant(toy, source, keyed=keyed).model
    assert model.has_windows, "a toy without windows shows nothing"
    plain = run_job(runtime_dir, source, [["eval", TOKENS, 0, 0]]).arrays[0]
    compared = []
    for name, stock in SETTINGS.items():
        by_keys, by_rows = tmp_path / "keys.gguf", tmp_path / "rows.gguf"
        rewrite(read_header(source), by_keys, set=stock_keys(stock, arch))
        try:
            edit = encode_rows(stock.table(model), StockRope(), model, CONTEXT)
        except NotHonouredError:
            continue  # either kind of layers would need a row of its own
        rewrite(read_header(source), by_rows, set={**edit.set, **encode_identity("table", {}, {}, edit).set})
        wanted, found = (run_job(runtime_dir, p, [["eval", TOKENS, 0, 0]]) for p in (by_keys, by_rows))
        assert not wanted.error + found.error, f"{name}: {found.last_error}"
        size, effect = np.abs(plain).max(), np.abs(wanted.arrays[0] - plain).max()
        # the kernel multiplies its way from pair to pair in float32, another base goes another way: 1e-4 of the effect
        assert np.abs(found.arrays[0] - wanted.arrays[0]).max() < max(2e-5 * size, 1e-3 * effect), name
        compared += [name] * bool(effect > 1e-3 * size)
    assert len(compared) >= (1 if arch == "muse-glimmer" and keyed else 2), (
        compared
    )  # there a base and factors act nowhere

"""What is written of a table that was found: on files that have one already, with sliding windows, in shards."""

from __future__ import annotations

import struct

import gguf_builder as gb
import numpy as np
import pytest
from fake_engine import model_file

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import OutputError
from ggufrope.methods.factor_table import FactorTable
from ggufrope.methods.table_file import read_table
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.tuned_file import FoundTable, write_found_table, write_tuned


def turned(file, layer, head=0):
    return file.decoded.table.frequencies(file.decoded.model, layer, head)


def own_factors(file):
    """What the runtime says of a file's heads: computed here from what they turn by, and all of them share."""
    model, shared = file.decoded.model, file.decoded.table.without_heads()
    return np.concatenate([
        shared.frequencies(model, layer) / turned(file, layer, head)
        for layer, heads in enumerate(model.n_head_kv) for head in range(heads)
    ])  # fmt: skip


@pytest.fixture
def source(tmp_path):
    return model_file(tmp_path / "model.gguf")


PAIRS, LAYERS = [1.0, 1.2, 1.5, 2.0], [1.0, 1.3, 0.9]


@pytest.mark.parametrize("base", [{}, {"factor": 4.0}], ids=["alone", "yarn"])
@pytest.mark.parametrize("scale", [1.0, 1.25])
@pytest.mark.parametrize(("axes", "factors"), [(("pair",), PAIRS), (("layer",), LAYERS)])
def test_a_tuned_file_is_tuned_again(source, tmp_path, axes, factors, scale, base):
    """What the first table said, the second says as well: in heads, for all of them, and the attention scale."""
    method = "table+yarn" if base else "table"
    first = FactorTable(np.array(factors), axes, scale)
    carry_out(ConvertRequest(source, tmp_path / "first.gguf", method, {"factor_table": first, **base}))
    start = ModelFile.open(tmp_path / "first.gguf")
    layout = PairLayout.of(start.decoded.model)
    change = np.exp(np.random.default_rng(1).uniform(-0.3, 0.3, layout.size))
    found = FoundTable(start, layout, own_factors(start) * change, {"tune": {}})
    written = ModelFile.open(write_tuned(start.path, tmp_path / "second.gguf", found, overwrite=False))
    for layer, part in enumerate(layout.split(change)):
        for head, factor in enumerate(part):
            assert np.allclose(turned(written, layer, head), turned(start, layer, head) / factor, rtol=1e-6, atol=0)
    assert written.decoded.table.attn_scale == pytest.approx(start.decoded.table.attn_scale)
    assert (written.decoded.method, written.decoded.context) == (method, start.decoded.context)
    # the exported table, applied to the original by hand, turns the same
    write_found_table(tmp_path / "second.npz", found)
    table = read_table(tmp_path / "second.npz")
    carry_out(ConvertRequest(source, tmp_path / "again.gguf", method, {"factor_table": table, **base}))
    again = ModelFile.open(tmp_path / "again.gguf")
    assert all((turned(again, layer, h) == turned(written, layer, h)).all() for layer in range(3) for h in range(2))
    assert again.decoded.table.attn_scale == pytest.approx(written.decoded.table.attn_scale, rel=1e-12)


@pytest.fixture
def windowed(tmp_path):
    path = tmp_path / "windowed.gguf"
    window = gb.entry("gemma3.attention.sliding_window", gb.U32, 16)
    kinds = gb.entry("gemma3.attention.sliding_window_pattern", gb.ARR, [True, False, True], gb.BOOL)
    path.write_bytes(gb.tiny_llama("gemma3", extra=[window, kinds]))
    return ModelFile.open(path)


@pytest.mark.parametrize("sliding", [False, True])
def test_pairs_of_layers_with_a_sliding_window(windowed, tmp_path, sliding):
    """``[pair]`` leaves such layers alone: where they were moved as well, that is not what is written."""
    model = windowed.decoded.model
    assert any(model.slides(layer) for layer in range(model.n_layer))
    layout = PairLayout.of(model, sliding=sliding)
    change = np.concatenate([
        np.where(free, np.tile(np.linspace(1, 2, pairs), (heads, 1)), 1.0).ravel()
        for (heads, pairs), free in zip(layout.shapes, layout.free, strict=True)
    ])  # fmt: skip
    found = FoundTable(windowed, layout, change, {})
    assert found.axes == (("layer", "head", "pair") if sliding else ("pair",))
    written = ModelFile.open(write_tuned(windowed.path, tmp_path / "out.gguf", found, overwrite=False))
    for layer, part in enumerate(layout.split(change)):
        assert np.allclose(turned(written, layer), turned(windowed, layer) / part[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("wrong", ["slow pair", "scale"])
def test_what_was_written_is_compared_in_every_pair(source, tmp_path, monkeypatch, wrong):
    """Slow pairs turn by as little as 1e-9 per token: a difference of a tenth must not pass for rounding."""
    source.write_bytes(source.read_bytes().replace(struct.pack("<f", 1e4), struct.pack("<f", 1e12)))
    start = ModelFile.open(source)
    assert turned(start, 0)[-1] == pytest.approx(1e-9)
    layout = PairLayout.of(start.decoded.model)
    found = FoundTable(start, layout, np.full(layout.size, 1.5), {})

    def convert(request):
        pairs = np.full(4, 1.5) * np.array([1, 1, 1, 1.0 + 0.1 * (wrong == "slow pair")])
        table = FactorTable(pairs, ("pair",), 1.1 if wrong == "scale" else 1.0)
        return carry_out(ConvertRequest(request.source, request.output, "table", {"factor_table": table}))

    monkeypatch.setattr("ggufrope.tune.tuned_file.carry_out", convert)
    output = tmp_path / "out.gguf"
    with pytest.raises(OutputError, match=r"out\.gguf: layer 0, KV head 0 would not rotate by the table"):
        write_tuned(source, output, found, overwrite=False)
    assert list(tmp_path.iterdir()) == [source]
    output.write_bytes(b"of an earlier run")
    with pytest.raises(OutputError, match="would not rotate by the table"):
        write_tuned(source, output, found, overwrite=True)
    assert output.read_bytes() == b"of an earlier run"
    assert sorted(tmp_path.iterdir()) == [source, output]


def test_a_link_stays_one_and_what_it_leads_to_is_replaced(source, tmp_path):
    """What is written stands beside that meanwhile: a name cannot be moved to another file system."""
    start = ModelFile.open(source)
    layout = PairLayout.of(start.decoded.model)
    found = FoundTable(start, layout, np.full(layout.size, 1.5), {})
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.gguf", tmp_path / "link.gguf"
    real.write_bytes(b"old")
    link.symlink_to(real)
    assert write_tuned(source, link, found, overwrite=True) == link
    assert link.is_symlink()
    assert ModelFile.open(real).decoded.method == "table"
    assert list((tmp_path / "elsewhere").iterdir()) == [real]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "elsewhere", link, source]

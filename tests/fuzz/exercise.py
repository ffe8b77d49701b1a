"""Everything that ggufrope does with a file that a stranger made, for the property tests and the fuzzer.

``exercise(data)`` raises only if there is a bug: any error but ggufrope's own, a message that is not one line, an edit
that cannot be undone, a file that gguf-py reads otherwise.
"""

from __future__ import annotations

import math
import warnings

import gguf
import numpy as np

from ggufrope.cli._inspect_text import lines
from ggufrope.convert.conversion import _edits, _undo, plan
from ggufrope.errors import GgufropeError
from ggufrope.gguf import Layout, differences, original_facts, plan_rewrite, read_header, read_shards, rewrite
from ggufrope.inspection.summary import Inspection
from ggufrope.modelfile.model_file import ModelFile

METHODS = (("ms-poe", {}), ("yarn", {"factor": 4.0}), ("llama3", {"factor": 8.0}), ("none", {}))


def exercise(data, folder, oracle=True):
    """Read, inspect, convert and strip ``data``; return how far it went: 0 refused, 1 read, 2 a model, 3 converted."""
    path = folder / "f.gguf"
    path.write_bytes(data)
    try:
        header = read_header(path)
    except GgufropeError as error:
        one_line(error)
        return 0
    everything(header)
    if oracle:
        compare(header, path)
    reached = 1
    for act in (show, strip, *(converting(name, params) for name, params in METHODS)):
        try:
            reached = max(reached, act(path, folder))
        except GgufropeError as error:
            one_line(error)
    return reached


def one_line(error):
    text = str(error)
    assert text and "\n" not in text and len(text) < 2000, text[:2000]


def everything(header):
    original_facts(header)
    assert plan_rewrite(header).header == header.read(0, header.data_offset) or header.tensors
    for entry in header.fields:
        try:
            header.get(entry.key)
        except GgufropeError as error:
            one_line(error)


def show(path, folder):
    found = Inspection(ModelFile.open(path))
    found.as_json()
    lines(found)
    return 2


def strip(path, folder):
    source = ModelFile.open(path).original
    plan_rewrite(source.header, **_undo(source))
    return 1


def converting(name, params):
    def convert(path, folder):
        made = plan(ModelFile.open(path), name, params)
        made.changes()
        edits = _edits(made)
        out = folder / "o.gguf"
        rewrite(made.source.header, out, layout=Layout(made.source.data_offset), **edits)
        file = ModelFile.open(out)
        Inspection(file).as_json()
        back = file.original
        if not made.source.converted:
            assert differences(read_shards(path), read_shards(out))
            undone = plan_rewrite(back.header, **_undo(back))
            assert undone.restored
        return 3

    return convert


def compare(header, path):
    """What gguf-py reads from a file that both accept."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = gguf.GGUFReader(path)
            fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
            values = {key: field.contents() for key, field in fields.items()}
    except Exception:  # it has checks of its own, and crashes where it has none
        return
    ours = {entry.key: entry for entry in header.fields if not entry.key.startswith("GGUF.")}
    assert ours.keys() == values.keys()
    for key, value in values.items():
        if ours[key].count or ours[key].item_type is None:  # it has no value for an empty array
            assert same(header.get(key), value), (key, header.get(key), value)
    assert [info.name for info in header.tensors] == [tensor.name for tensor in theirs.tensors]
    for info, tensor in zip(header.tensors, theirs.tensors, strict=True):
        assert info.nbytes == tensor.n_bytes and info.ggml_type == int(tensor.tensor_type)
        assert header.data_offset + info.offset == tensor.data_offset
        assert math.prod(info.shape) == math.prod(int(n) for n in tensor.shape)


def same(ours, theirs):
    ours = ours.tolist() if isinstance(ours, np.ndarray) else ours
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or (ours != ours and theirs != theirs)  # NaN

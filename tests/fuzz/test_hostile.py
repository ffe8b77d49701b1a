"""Files made by an enemy: built wrong, and right ones damaged. See also ``scripts/fuzz``."""

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import gguf_builder as gb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from exercise import exercise

from ggufrope.convert.conversion import plan
from ggufrope.errors import GgufError, GgufropeError
from ggufrope.gguf import read_header
from ggufrope.modelfile.model_file import ModelFile

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
MANY = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
EXTREMES = [512, 513, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]
NUMBERS = st.one_of(st.integers(0, 70), st.sampled_from(EXTREMES))
NAMES = [
    "general.architecture", "general.alignment", "split.count", "split.no", "split.tensors.count", "llama.block_count",
    "llama.context_length", "llama.embedding_length", "llama.attention.head_count", "llama.attention.head_count_kv",
    "llama.attention.key_length", "llama.rope.dimension_count", "llama.rope.freq_base", "llama.rope.scaling.type",
    "llama.rope.scaling.factor", "llama.attention.sliding_window", "llama.attention.sliding_window_pattern",
    "ggufrope.version", "ggufrope.method", "ggufrope.params", "ggufrope.original", "ggufrope.head_factors",
    "ggufrope.length_points", "ggufrope.length_factors", "ggufrope.length_attn_scale", "ggufrope.padding",
    "ggufrope.context_length", "x",
]  # fmt: skip
TEXTS = ["llama", "gemma3", "yarn", "linear", "", "[" * 9999, "{}",
         '{"keys": {}, "added": [], "tensors": [], "file": {}}',
         '{"keys": {"llama.block_count": {"index": 1e999, "type": "UINT32", "value": 3}}, "added": [], "tensors": []}',
         "\ud800".encode("utf-8", "surrogatepass"), "9" * 5000]  # fmt: skip


@st.composite
def values(draw):
    kind = draw(st.sampled_from([*gb.LETTERS, gb.STR]))
    if kind == gb.STR:
        item = st.sampled_from(TEXTS)
    elif kind in (gb.F32, gb.F64):
        item = st.floats(width=32)
    elif kind == gb.BOOL:
        item = st.booleans()
    else:
        top = 1 << 8 * struct.calcsize(gb.LETTERS[kind]) - 1
        item = NUMBERS.map(lambda number: number % top)
    if draw(st.booleans()):
        return kind, draw(item), None
    return gb.ARR, draw(st.lists(item, max_size=20)), kind


@st.composite
def models(draw):
    """A model with some keys of the wrong type or value, and now and then a wrong description."""
    entries = {e[8 : 8 + struct.unpack_from("<Q", e)[0]].decode(): e for e in gb.llama_entries()}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=6, unique=True)):
        kind, value, item = draw(values())
        entries[name] = gb.entry(name, kind, value, item)
    added = draw(st.sampled_from(["", "rope_freqs.weight", "rope_factors_long.weight"]))
    tensors = gb.tiny_tensors() + [(added, np.ones(4, np.float32))] * bool(added)
    return gb.build(list(entries.values()), tensors, pad_last=draw(st.booleans()))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 3.5])
def test_counts_are_no_arrays_of_fractions(tmp_path, number):
    path = tmp_path / "model.gguf"
    entries = [e for e in gb.llama_entries() if b"block_count" not in e]
    path.write_bytes(gb.build([*entries, gb.entry("llama.block_count", gb.ARR, [number], gb.F32)], gb.tiny_tensors()))
    with pytest.raises(GgufError, match=r"llama\.block_count is an array of 1 f32, llama\.cpp takes u32; "):
        plan(ModelFile.open(path), "ms-poe", {})


@MANY
@given(data=models())
def test_odd_models(tmp_path_factory, data):
    exercise(data, tmp_path_factory.mktemp("odd"))


@MANY
@given(data=st.data())
def test_damaged_files(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from(CORPUS)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        what = data.draw(st.sampled_from(["byte", "number", "cut", "repeat"]))
        if what == "byte":
            content[place] = data.draw(st.integers(0, 255))
        elif what == "number":
            content[place : place + 8] = data.draw(NUMBERS).to_bytes(8, "little")
        elif what == "cut":
            del content[place : place + data.draw(st.integers(1, 99))]
        else:
            content[place:place] = content[place : place + data.draw(st.integers(1, 99))]
        if not content:
            break
    exercise(bytes(content), tmp_path_factory.mktemp("damaged"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_seeds_of_the_fuzzer(path, tmp_path):
    exercise(path.read_bytes(), tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"block_count": 2**32 - 1},
        {"attention.head_count": 2**32 - 1},
        {"attention.head_count_kv": 2**32 - 1},
        {"embedding_length": 2**32 - 1},
        {"embedding_length": 2**32 - 1, "attention.head_count": 1, "rope.dimension_count": 2**32 - 2},
        {"context_length": 0},
    ],
    ids=str,
)
def test_impossible_sizes_are_refused_before_anything_is_made(tmp_path, changed):
    path = tmp_path / "f.gguf"
    path.write_bytes(gb.build(gb.llama_entries(**changed), gb.tiny_tensors()))
    tracemalloc.start()
    try:
        with pytest.raises(GgufropeError):
            plan(ModelFile.open(path), "ms-poe", {})
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_limits_of_a_header(tmp_path):
    path = tmp_path / "f.gguf"
    for n_tensors, n_fields, size, said in (
        (0, 70_000, 2_000_000, "claims 70000 keys, more than the 65536"),
        (140_000, 0, 4_000_000, "claims 140000 tensors, more than the 131072"),
    ):
        path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, n_fields) + bytes(size))
        with pytest.raises(GgufropeError, match=said):
            read_header(path)
    with path.open("wb") as file:  # sparse: an array of 100 MB
        head = gb.string("a") + struct.pack("<IIQ", gb.ARR, gb.U8, 100 << 20)
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + head)
        file.truncate(200 << 20)
    with pytest.raises(GgufropeError, match="'a' makes the header longer than the 64 MiB"):
        read_header(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the high-water mark from /proc")
def test_a_large_header_takes_little_memory(tmp_path):
    """A usual vocabulary; measured in a process of its own."""
    path = tmp_path / "f.gguf"
    tokens = gb.entry("tokenizer.ggml.tokens", gb.ARR, [f"token {i}" for i in range(128_000)], gb.STR)
    merges = gb.entry("tokenizer.ggml.merges", gb.ARR, [f"tok en{i}" for i in range(280_000)], gb.STR)
    path.write_bytes(gb.build([*gb.llama_entries()[:-3], tokens, merges], gb.tiny_tensors()))
    code = """
import sys
from ggufrope.cli import main
code = main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""
    for target in (["-o", tmp_path / "o.gguf"], ["--in-place"]):
        command = [sys.executable, "-c", code, "convert", path, "-m", "ms-poe", *target]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(run.stderr.split()[-2]) * 1024 < 100e6

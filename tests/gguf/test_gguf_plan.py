import json
import struct

import gguf
import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U8, U32, build, entry, llama_entries, pad, string, tensor_info, tiny_llama
from hypothesis import given, settings
from hypothesis import strategies as st

from ggufrope.errors import GgufError, OutputError
from ggufrope.gguf import (
    TypedValue,
    ValueType,
    encode_entry,
    encode_header,
    original_facts,
    plan_rewrite,
    read_header,
    rewrite,
    write_plan,
)

U = ValueType.UINT32


def u32(number):
    return TypedValue(U, number)


@pytest.fixture
def load(tmp_path):
    def load(data, name="m.gguf"):
        path = tmp_path / name
        path.write_bytes(data)
        return read_header(path)

    return load


def abc(load):
    return load(build([entry(key, U32, index) for index, key in enumerate("abc")]))


def test_positions_of_set_removed_and_restored_keys(load):
    header = abc(load)

    def result(**edits):
        expected_keys = read_header_bytes(load, encode_header(header, **edits))
        return "".join(expected_keys)

    assert result() == "abc"
    assert result(set={"b": u32(9)}) == "abc"
    assert result(set={"d": u32(9), "a": u32(8)}) == "abcd"
    assert result(remove=["a", "absent"]) == "bc"
    assert result(set={"x": u32(1)}, insert_at={"x": 0}) == "xabc"
    assert result(set={"x": u32(1), "y": u32(2)}, insert_at={"y": 3, "x": 1}) == "axbyc"
    assert result(set={"x": u32(1), "n": u32(2)}, insert_at={"x": 99}) == "abcxn"
    assert result(set={"a": u32(1)}, remove=["a"]) == "bca"
    assert result(set={"a": u32(1)}, insert_at={"a": 2}) == "abc"


def read_header_bytes(load, data):
    return [entry.key for entry in load(data, "new.gguf").fields]


def test_untouched_bytes_are_carried_and_new_ones_are_literal(load):
    # a boolean stored as 7 and a string that is not UTF-8 would not survive decoding and encoding
    odd = [string("bool") + b"\7\0\0\0\x07", entry("text", STR, b"\xff\0")]
    header = load(build([*odd, entry("n", U32, 1)]))
    new = encode_header(header, set={"n": u32(2), "f": TypedValue(ValueType.ARRAY, [1.5], ValueType.FLOAT32)})
    assert new == build([*odd, entry("n", U32, 2), entry("f", ARR, [1.5], F32)])


def test_a_raw_entry_is_taken_as_it_is(load):
    header = abc(load)
    raw = entry("b", ARR, [1, 2], U8)
    assert encode_header(header, set={"b": raw}) == build([entry("a", U32, 0), raw, entry("c", U32, 2)])
    for wrong, message in (
        (entry("z", U8, 1), "recorded entry of 'b' is one of 'z'; the file was tampered with"),
        (raw + b"\0", "key 'b' is followed by 1 stray bytes"),
        (raw[:-1], "key 'b' needs 2 bytes at offset"),
        (b"", "key 1 of 1 needs 8 bytes"),
    ):
        with pytest.raises(GgufError, match=message):
            encode_header(header, set={"b": wrong})


def test_what_gguf_cannot_express(load):
    header = load(tiny_llama())
    cube = np.zeros((1,) * 5, np.float32)
    for edits, message in (
        ({"set": {"": u32(1)}}, "must have 1 to 65535 bytes"),
        ({"set": {"k" * 65536: u32(1)}}, "must have 1 to 65535 bytes; this one has 65536"),
        ({"set": {"general.alignment": u32(64)}}, "general.alignment moves all tensor data"),
        ({"remove": ["general.alignment"]}, "general.alignment moves all tensor data"),
        ({"add_tensors": {"x" * 64: cube[0]}}, "cannot be added; GGUF allows names of 63 bytes"),
        ({"add_tensors": {"x": cube}}, "shape .* cannot be added; .* 4 dimensions"),
        ({"add_tensors": {"x": np.zeros(2)}}, "type float64 cannot be added"),
    ):
        with pytest.raises(OutputError, match=message):
            encode_header(header, **edits)
    with pytest.raises(TypeError, match="no such edits"):
        encode_header(header, sett={})


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (U, -1, "-1 cannot be stored as GGUF type UINT32"),
        (U, 2**32, "4294967296 cannot be stored"),
        (U, 1.5, "1.5 cannot be stored"),
        (U, "1", "'1' cannot be stored"),
        (ValueType.BOOL, 1, "1 cannot be stored as GGUF type BOOL: give a bool"),
        (ValueType.STRING, b"x", "b'x' cannot be stored as GGUF type STRING: give a str"),
        (ValueType.STRING, None, "None cannot be stored"),
        (ValueType.FLOAT32, 1e39, "1e\\+39 cannot be stored as GGUF type FLOAT32"),
        (ValueType.FLOAT32, "x" * 99, "'xxxx.*\\.\\.\\. cannot be stored"),
        (ValueType.ARRAY, [1], "needs a scalar item type"),
    ],
)
def test_values_that_do_not_fit_their_type(kind, value, message):
    with pytest.raises(OutputError, match=message):
        TypedValue(kind, value)


def test_arrays_that_do_not_fit_their_type():
    for item, value in ((U, [1, -1]), (ValueType.STRING, ["a", 1]), (ValueType.ARRAY, [[1]])):
        with pytest.raises(OutputError):
            TypedValue(ValueType.ARRAY, value, item)
    with pytest.raises(OutputError, match="item type"):
        TypedValue(U, 1, U)
    numbers = np.array([1.5, 2.5], np.float32)
    expected = struct.pack("<IIQff", 9, 6, 2, 1.5, 2.5)
    for value in (numbers, [1.5, 2.5], (1.5, 2.5)):
        assert TypedValue(ValueType.ARRAY, value, ValueType.FLOAT32).encode() == expected


def test_added_tensors_follow_aligned_and_padded(load, tmp_path):
    header = load(tiny_llama(pad_last=False))
    extra = {"one": np.arange(3, dtype=np.float32), "two": np.ones((2, 3), np.float32).T}
    out = tmp_path / "out.gguf"
    rewrite(header, out, add_tensors=extra)
    assert out.stat().st_size % 32 == 0
    new = read_header(out)
    assert [info.name for info in new.tensors[-2:]] == ["one", "two"]
    assert new.tensor("two").shape == (2, 3)  # ggml's order
    for name, array in extra.items():
        assert np.array_equal(new.tensor_data(name), array)
    for info in header.tensors:
        assert np.array_equal(new.tensor_data(info.name), header.tensor_data(info.name))
    theirs = gguf.GGUFReader(out)
    assert [tensor.name for tensor in theirs.tensors] == [info.name for info in new.tensors]
    assert np.array_equal(theirs.tensors[-1].data, extra["two"])


def test_a_tensor_can_be_dropped_from_the_middle_and_put_back(load, tmp_path):
    """llama-quantize sorts tensors, so one that was added last may come first later."""
    source = load(tiny_llama())
    name, middle = "blk.0.attn_q.weight", source.tensor_data("blk.0.attn_q.weight")
    rewrite(source, tmp_path / "a.gguf", drop_tensors=[name, "absent"])
    dropped = read_header(tmp_path / "a.gguf")
    assert [info.name for info in dropped.tensors] == ["token_embd.weight", "output_norm.weight"]
    assert np.array_equal(dropped.tensor_data("output_norm.weight"), source.tensor_data("output_norm.weight"))
    edits = {"add_tensors": {name: middle}, "insert_tensors_at": {name: 1}, "restore": original_facts(source)}
    plan = plan_rewrite(dropped, **edits)
    write_plan(dropped, plan, tmp_path / "b.gguf")
    assert plan.restored and (tmp_path / "b.gguf").read_bytes() == source.path.read_bytes()


def test_facts_of_another_file_do_not_cut_anything(load):
    """After llama-quantize the recorded facts no longer describe what stripping gives; nothing may be cut by them."""
    header = load(tiny_llama())
    facts = original_facts(header)
    assert json.loads(json.dumps(facts)) == facts
    assert plan_rewrite(header, restore=facts).restored
    assert not plan_rewrite(header).restored
    changed = plan_rewrite(header, set={"new": u32(1)}, restore=facts)
    assert not changed.restored and changed.size == plan_rewrite(header, set={"new": u32(1)}).size
    for wrong in (
        {"header_sha256": None}, {"file_bytes": 5}, {"file_bytes": "x"}, {"file_bytes": -1}, {"file_bytes": 10**9},
        {"padding": "zz", "file_bytes": 0}, {"padding": 3, "file_bytes": 0},
    ):  # fmt: skip
        plan = plan_rewrite(header, restore={**facts, **wrong})
        assert not plan.restored and plan.size == header.file_size


names = st.text(min_size=1, max_size=12).filter(lambda name: len(name.encode()) < 40)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def arrays(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 0.5


@st.composite
def sources(draw):
    keys = draw(st.lists(names.filter(lambda name: name != "general.alignment"), unique=True, max_size=5))
    tensors = [(name, arrays(draw(shapes))) for name in draw(st.lists(names, unique=True, max_size=4))]
    alignment = draw(st.sampled_from([1, 8, 32, 128]))
    entries = [entry("general.alignment", U32, alignment), *(entry(key, STR, key[::-1]) for key in keys)]
    options = {"pad_last": draw(st.booleans()), "fill": draw(st.sampled_from([b"\0", b"\xaa"]))}
    options["tail"] = draw(st.sampled_from([b"", b"stray bytes"])) if options["pad_last"] else b""
    return build(entries, tensors, alignment=alignment, version=draw(st.sampled_from([2, 3])), **options), options


@settings(max_examples=60, deadline=None)
@given(source=sources(), data=st.data())
def test_every_edit_can_be_undone_to_the_byte(tmp_path_factory, source, data):
    content, options = source
    folder = tmp_path_factory.mktemp("undo")
    (folder / "a").write_bytes(content)
    header = read_header(folder / "a")
    keys = [field.key for field in header.fields if field.key != "general.alignment"]
    tensors = [info.name for info in header.tensors]

    def some(values):
        return st.lists(st.sampled_from(values), unique=True) if values else st.just([])

    touched, removed = data.draw(some(keys)), data.draw(some(keys))
    fresh = [key for key in data.draw(st.lists(names, unique=True, max_size=3)) if key not in header]
    dropped = data.draw(some(tensors)) if options["fill"] == b"\0" else []
    added = [name for name in data.draw(st.lists(names, unique=True, max_size=2)) if name not in tensors]
    edits = {
        "set": {key: u32(7) for key in [*fresh, *touched] if key not in removed and key != "general.alignment"},
        "remove": removed,
        "drop_tensors": dropped,
        "add_tensors": {name: arrays((3, 5)) for name in added},
    }
    rewrite(header, folder / "b", **edits)
    edited = read_header(folder / "b")
    assert [field.key for field in edited.fields] == [
        *(field.key for field in header.fields if field.key not in removed),
        *(key for key in edits["set"] if key not in header),
    ]
    assert all(edited.get(key) == 7 for key in edits["set"])
    index_of = {field.key: index for index, field in enumerate(header.fields)}
    plan = plan_rewrite(
        edited,
        set={key: header.raw(header.field(key)) for key in {*touched, *removed}},
        insert_at=index_of,
        remove=fresh,
        drop_tensors=added,
        add_tensors={name: header.tensor_data(name) for name in dropped},
        insert_tensors_at={name: tensors.index(name) for name in dropped},
        restore=json.loads(json.dumps(original_facts(header))),
    )
    write_plan(edited, plan, folder / "c")
    assert plan.restored
    assert (folder / "c").read_bytes() == content


def finite(width):
    return st.floats(width=width, allow_nan=False, allow_infinity=False)


def integers(kind, bits, signed):
    return st.tuples(
        st.just(kind), st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)
    )


V = gguf.GGUFValueType
scalars = st.one_of(
    *(integers(V[f"UINT{bits}"], bits, False) for bits in (8, 16, 32, 64)),
    *(integers(V[f"INT{bits}"], bits, True) for bits in (8, 16, 32, 64)),
    st.tuples(st.just(V.FLOAT32), finite(32)),
    st.tuples(st.just(V.FLOAT64), finite(64)),
    st.tuples(st.just(V.BOOL), st.booleans()),
    st.tuples(st.just(V.STRING), st.text()),
)
array_values = scalars.flatmap(
    lambda item: st.tuples(st.just(item[0]), st.lists(st.just(item[1]), min_size=1, max_size=9))
)
key_values = st.dictionaries(
    names.filter(lambda name: not name.startswith(("general.a", "GGUF."))), st.one_of(scalars, array_values), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(pairs=key_values, shapes_by_name=st.dictionaries(names, shapes, max_size=4), fresh=key_values)
def test_agrees_with_gguf_py(tmp_path_factory, pairs, shapes_by_name, fresh):
    path = tmp_path_factory.mktemp("oracle") / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, (kind, value) in pairs.items():
        if isinstance(value, list):
            writer.add_key_value(key, value, V.ARRAY, sub_type=kind)
        else:
            writer.add_key_value(key, value, kind)
    for name, shape in shapes_by_name.items():
        writer.add_tensor(name, arrays(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    assert_same(header, gguf.GGUFReader(path))
    assert [field.key for field in header.fields] == ["general.architecture", *pairs]
    for key in pairs:
        assert encode_entry(key, header.typed(key)) == header.raw(header.field(key))
    out = path.with_name("b.gguf")
    typed = {
        key: TypedValue(ValueType.ARRAY, value, ValueType(kind))
        if isinstance(value, list)
        else TypedValue(ValueType(kind), value)
        for key, (kind, value) in fresh.items()
    }
    rewrite(header, out, set=typed, add_tensors={"new": arrays((2, 3))} if "new" not in shapes_by_name else {})
    new = read_header(out)
    assert_same(new, gguf.GGUFReader(out))
    for key, (_, value) in fresh.items():
        got = new.get(key)
        assert (got.tolist() if isinstance(got, np.ndarray) else got) == value


def assert_same(ours, theirs):
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert [field.key for field in ours.fields] == list(fields)
    for key, field in fields.items():
        value = ours.get(key)
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents()
    assert len(ours.tensors) == len(theirs.tensors)
    for info, tensor in zip(ours.tensors, theirs.tensors, strict=True):
        assert (info.name, info.shape, info.nbytes) == (tensor.name, tuple(tensor.shape), tensor.n_bytes)
        assert ours.data_offset + info.offset == tensor.data_offset
        assert np.array_equal(ours.tensor_data(info.name), tensor.data)


def test_an_odd_description_survives_a_move(load, tmp_path):
    """Trailing dimensions of 1 are legal; writing them anew would drop them."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, 2, 0) + tensor_info("t", [2, 1, 1], 0, 0) + tensor_info("u", [1], 0, 32)
    header = load(pad(pad(head) + bytes(36)))
    rewrite(header, tmp_path / "o.gguf", add_tensors={"first": np.ones(9, np.float32)}, insert_tensors_at={"first": 0})
    new = read_header(tmp_path / "o.gguf")
    assert [(info.name, info.shape, info.offset) for info in new.tensors] == [
        ("first", (9,), 0), ("t", (2, 1, 1), 64), ("u", (1,), 96)
    ]  # fmt: skip


def test_the_builders_model_is_plausible(load):
    header = load(tiny_llama("qwen2", extra=[entry("x", U32, 1)]))
    assert header.architecture == "qwen2" and header.get("qwen2.attention.head_count_kv") == 2
    assert len(llama_entries()) + 1 == len(header.fields)

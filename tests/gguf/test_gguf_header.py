import os
import struct

import numpy as np
import pytest
from gguf_builder import (
    ARR,
    BOOL,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    LETTERS,
    STR,
    U8,
    U16,
    U32,
    U64,
    build,
    entry,
    items,
    pad,
    string,
    tensor_info,
    tiny_llama,
)

from ggufrope.errors import GgufError
from ggufrope.gguf import ValueType, read_header


@pytest.fixture
def read(tmp_path):
    def read(data):
        path = tmp_path / "m.gguf"
        path.write_bytes(data)
        return read_header(path)

    return read


def test_literal_bytes(read):
    data = (
        b"GGUF\x03\0\0\0" b"\1\0\0\0\0\0\0\0" b"\2\0\0\0\0\0\0\0"
        b"\x14\0\0\0\0\0\0\0general.architecture" b"\x08\0\0\0" b"\5\0\0\0\0\0\0\0llama"
        b"\1\0\0\0\0\0\0\0a" b"\x09\0\0\0" b"\4\0\0\0" b"\2\0\0\0\0\0\0\0" b"\7\0\0\0\xff\xff\xff\xff"
        b"\1\0\0\0\0\0\0\0t" b"\2\0\0\0" b"\2\0\0\0\0\0\0\0" b"\1\0\0\0\0\0\0\0" b"\0\0\0\0" b"\0\0\0\0\0\0\0\0"
    )  # fmt: skip
    data += bytes(-len(data) % 32) + b"\0\0\x80\x3f\0\0\0\xc0"
    header = read(data)
    assert (header.version, header.alignment, header.data_offset, header.file_size) == (3, 32, 160, 168)
    assert [(f.key, f.type, f.item_type, f.count, f.start, f.payload, f.end) for f in header.fields] == [
        ("general.architecture", ValueType.STRING, None, 1, 24, 56, 69),
        ("a", ValueType.ARRAY, ValueType.UINT32, 2, 69, 94, 102),
    ]
    assert header.architecture == header.get("general.architecture") == "llama"
    assert header.get("a").tolist() == [7, 2**32 - 1]
    info = header.tensor("t")
    assert (info.shape, info.ggml_type, info.offset, info.nbytes, info.start, info.end) == ((2, 1), 0, 0, 8, 102, 143)
    assert header.tensor_data("t").tolist() == [[1.0, -2.0]]


SCALARS = {U8: 255, I8: -128, U16: 65535, I16: -32768, U32: 2**32 - 1, I32: -(2**31), F32: 0.5, BOOL: True,
           STR: "▁x", U64: 2**64 - 1, I64: -(2**63), F64: 1e300}  # fmt: skip


def test_every_type_is_decoded_and_encoded_back(read):
    entries = [entry(f"s{kind}", kind, value) for kind, value in SCALARS.items()]
    entries += [entry(f"a{kind}", ARR, [value] * 3, kind) for kind, value in SCALARS.items()]
    entries += [entry(f"e{kind}", ARR, [], kind) for kind in SCALARS]
    header = read(build(entries))
    for kind, value in SCALARS.items():
        assert header.get(f"s{kind}") == value
        assert type(header.get(f"s{kind}")) is type(value)
        array, empty = header.get(f"a{kind}"), header.get(f"e{kind}")
        assert list(array) == [value] * 3 and len(empty) == 0
        assert isinstance(array, list if kind == STR else np.ndarray)
    for field, raw in zip(header.fields, entries, strict=True):
        assert header.raw(field) == raw
        assert string(field.key) + header.typed(field.key).encode() == raw


def test_absent_keys(read):
    header = read(build())
    assert "x" not in header and header.get("x") is None and header.get("x", 3) == 3
    assert header.field("x") is None and header.tensor("x") is None
    with pytest.raises(KeyError):
        header.typed("x")
    with pytest.raises(GgufError, match=r"general.architecture is None"):
        header.architecture  # noqa: B018  # the property raises


def test_a_large_vocabulary_crosses_the_read_window(read):
    tokens = [f"token {i} " * (i % 7) for i in range(60_000)]  # 2 MB
    header = read(build([entry("before", U8, 1), entry("t", ARR, tokens, STR), entry("after", U8, 2)]))
    assert header.get("t") == tokens
    assert (header.get("before"), header.get("after")) == (1, 2)


def test_a_long_array_of_bytes_is_stepped_over(read):
    header = read(build([entry("charsmap", ARR, bytes(3 << 20), U8), entry("after", U8, 2)]))
    assert header.get("after") == 2


def test_version_2_and_missing_last_padding_are_read(read):
    data = tiny_llama(version=2, pad_last=False)
    assert len(data) % 32 == 4
    header = read(data)
    assert header.version == 2 and header.tensor_data("output_norm.weight").shape == (9,)


def test_tensor_data_of_half_types(read):
    values = np.array([1.0, -2.5, 0.125], np.float32)
    for kind, data in ((1, values.astype("<f2").tobytes()), (30, (values.view("<u4") >> 16).astype("<u2").tobytes())):
        head = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + tensor_info("t", [3], kind, 0)
        assert read(pad(head) + data).tensor_data("t").tolist() == values.tolist()
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + tensor_info("t", [32], 8, 0)
    with pytest.raises(GgufError, match="'t' is Q8_0"):
        read(pad(head) + bytes(34)).tensor_data("t")
    with pytest.raises(KeyError):
        read(pad(head) + bytes(34)).tensor_data("u")


def test_a_scalar_tensor_and_an_empty_one(read):
    head = struct.pack("<4sIQQ", b"GGUF", 3, 2, 0) + tensor_info("e", [0, 5], 0, 0) + tensor_info("s", [], 0, 0)
    header = read(pad(head) + struct.pack("<f", 3))
    assert header.tensor_data("s") == 3.0 and header.tensor_data("e").shape == (5, 0)


def test_truncated_at_every_byte(tmp_path):
    align_64 = {"extra": [entry("general.alignment", U32, 64)], "alignment": 64}
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_llama(**align_64, tail=b"stray"))
    complete = len(tiny_llama(**align_64, pad_last=False))
    for length in range(path.stat().st_size, complete - 1, -1):
        os.truncate(path, length)
        assert read_header(path).file_size == length
    for length in range(complete - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(GgufError, match="not a GGUF" if 0 < length < 4 else "again") as caught:
            read_header(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def prefix(n_tensors, n_fields, version=3, magic=b"GGUF"):
    return struct.pack("<4sIQQ", magic, version, n_tensors, n_fields)


def tensors(*infos, data=bytes(4096)):
    return pad(prefix(len(infos), 0) + b"".join(infos)) + data


HOSTILE = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"G", "not a GGUF file: it starts with b'G'"),
    "magic only": (b"GGUF", "the header needs 4 bytes at offset 4, but the file ends at 4; the file is truncated"),
    "other magic": (b"\0asm" + bytes(40), "not a GGUF file: it starts with b'.x00asm'"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, .*`git lfs pull`"),
    "GGJT": (b"tjgg" + bytes(40), "a GGJT file, from before GGUF"),
    "zip": (b"PK\3\4" + bytes(40), "zip archive"),
    "HTML": (b"<!DOCTYPE html>", "a web page"),
    "big-endian": (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "big-endian GGUF; .* gguf_convert_endian.py first"),
    "version 0": (prefix(0, 0, version=0), "GGUF version 0, only 2 and 3"),
    "version 1": (prefix(0, 0, version=1), "GGUF version 1, .*; convert the original model again"),
    "version 4": (prefix(0, 0, version=4), "GGUF version 4, .*; update ggufrope"),
    "many keys": (prefix(0, 2**64 - 1), "claims 18446744073709551615 keys, more than a file of 24 bytes can hold"),
    "many tensors": (prefix(2**63, 0), "claims 9223372036854775808 tensors"),
    "key too long": (
        prefix(0, 1) + struct.pack("<Q", 2**40) + bytes(99),
        "key 1 of 1 has a name of 1099511627776 byte",
    ),
    "key empty": (build([entry("", STR, "text")]), "key 1 of 1 has an empty name"),
    "key not UTF-8": (build([entry(b"\xff\xfe", U8, 0)]), "not UTF-8"),
    "key twice": (build([entry("a", U8, 0), entry("a", U8, 0)]), "key 'a' occurs twice"),
    "value type": (prefix(0, 1) + string("k") + struct.pack("<IQ", 13, 0), "key 'k' has value type 13"),
    "item type": (prefix(0, 1) + string("k") + struct.pack("<IIQ", 9, 99, 0), "key 'k' has value type 99"),
    "nested array": (
        prefix(0, 1) + string("k") + struct.pack("<IIQIQ", 9, 9, 1, 0, 0),
        "key 'k' is an array of arrays",
    ),
    "array count": (
        prefix(0, 1) + string("k") + struct.pack("<IIQ", 9, 4, 2**62),
        "key 'k' needs 18446744073709551616 bytes at offset",
    ),
    "string count": (
        prefix(0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 2**61),
        "key 'k' claims 2305843009213693952 strings",
    ),
    "string length": (
        prefix(0, 1) + string("k") + struct.pack("<IQ", 8, 2**64 - 1) + bytes(9),
        "key 'k' needs 18446744073709551615 bytes",
    ),
    "string in an array": (
        prefix(0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 2) + string("ok") + struct.pack("<Q", 99) + bytes(50),
        "key 'k' needs",
    ),
    "alignment type": (build([entry("general.alignment", U64, 32)]), "'general.alignment' is UINT64, not UINT32"),
    "alignment 0": (build([entry("general.alignment", U32, 0)]), "'general.alignment' is 0, not a power of two"),
    "alignment 48": (build([entry("general.alignment", U32, 48)]), "is 48, not a power of two"),
    "alignment 2^31": (build([entry("general.alignment", U32, 2**31)]), "is 2147483648, not a power of two up to"),
    "tensor name": (tensors(tensor_info("x" * 64, [1], 0, 0)), "tensor 1 of 1 has a name of 64 bytes"),
    "tensor twice": (
        tensors(tensor_info("t", [1], 0, 0), tensor_info("t", [1], 0, 32)),
        "tensor 't' occurs twice",
    ),
    "five dimensions": (tensors(tensor_info("t", [1] * 5, 0, 0)), "tensor 't' has 5 dimensions"),
    "2^32-1 dimensions": (tensors(string("t") + b"\xff" * 4), "tensor 't' has 4294967295 dimensions"),
    "shape overflow": (tensors(tensor_info("t", [2**40, 2**40], 0, 0)), "tensor 't' has the impossible shape"),
    "shape overflow behind a zero": (tensors(tensor_info("t", [0, 2**63, 2], 0, 0)), "impossible shape"),
    "removed type": (tensors(tensor_info("t", [32], 4, 0)), "tensor 't' has ggml type 4, unknown"),
    "unknown type": (tensors(tensor_info("t", [32], 43, 0)), "tensor 't' has ggml type 43, unknown"),
    "broken block": (tensors(tensor_info("t", [33], 8, 0)), "tensor 't' cannot be Q8_0: rows of 33 elements"),
    "scalar block": (tensors(tensor_info("t", [], 8, 0)), "tensor 't' cannot be Q8_0: rows of 1 elements"),
    "data too large": (tensors(tensor_info("t", [2**40], 0, 0)), "tensor 't' ends at 4398046511168, behind the end"),
    "first offset": (tensors(tensor_info("t", [1], 0, 32)), "tensor 't' starts at offset 32 of the data, not 0"),
    "offset gap": (
        tensors(tensor_info("t", [1], 0, 0), tensor_info("u", [1], 0, 64)),
        "tensor 'u' starts at offset 64 of the data, not 32",
    ),
    "offset 2^64": (tensors(tensor_info("t", [1], 0, 2**64 - 32)), "starts at offset 18446744073709551584"),
    "no room for padding": (prefix(1, 0) + tensor_info("t", [0], 0, 0), "the header is 64 bytes long, in a file of 57"),
}


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_get_one_clear_line(read, data, message):
    with pytest.raises(GgufError, match=message) as caught:
        read(data)
    assert "\n" not in str(caught.value) and "m.gguf: " in str(caught.value)


def test_text_that_is_not_utf8_only_matters_when_decoded(read):
    header = read(build([entry("s", STR, b"\xff"), entry("a", ARR, [b"ok", b"\xc3"], STR)]))
    assert header.raw(header.fields[0]) == entry("s", STR, b"\xff")
    for key in "sa":
        with pytest.raises(GgufError, match=f"key '{key}' is not UTF-8"):
            header.get(key)


def test_paths_that_are_no_files(tmp_path):
    for path, found in ((tmp_path, "a directory"), (tmp_path / "no", "no such file"), ("/dev/null", "not a regular")):
        with pytest.raises(GgufError, match=found):
            read_header(path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GgufError, match=r"no such file|cannot be read"):
        read_header(tmp_path / "file" / "below")


def test_a_file_that_changes_after_it_was_read(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_llama())
    header = read_header(path)
    path.write_bytes(tiny_llama() + b"more")
    with pytest.raises(GgufError, match="the file changed while it was in use"):
        header.get("general.name")
    path.unlink()
    with pytest.raises(GgufError, match="no such file"):
        header.get("general.name")


def test_builder_letters_match_the_library():
    assert {kind: struct.calcsize("<" + letter) for kind, letter in LETTERS.items()} == {
        kind: kind.width for kind in ValueType if kind.width
    }
    assert items(U8, [1, 2]) == b"\1\2"

"""Reading a GGUF header, checked against the file's size.

The checks are those of llama.cpp's reader (``ggml/src/gguf.cpp``), so that a file accepted here is one that it loads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import BinaryIO

from ..errors import GgufError
from .ggml_types import GGML_TYPES, tensor_nbytes
from .header import Field, Header, TensorInfo
from .keys import ALIGNMENT
from .lock import lock
from .reading import FileStamp, open_source, read_at, read_some
from .recovery import recover
from .scan import Scanner
from .values import MAX_KEY_BYTES, ValueType

DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 24
# a header is held in memory while it is edited; these bound that, far above any model (vocabularies take up to 20 MB)
MAX_HEADER_BYTES = 64 << 20
MAX_FIELDS = 1 << 16
MAX_TENSORS = 1 << 17
MAX_KEYS_BYTES = 4 << 20
MAX_NAME_BYTES = 63  # GGML_MAX_NAME counts the terminating zero
MAX_DIMS = 4
_MIN_FIELD_BYTES = 8 + 1 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8

_LOOKS_LIKE = {
    b"vers": "a Git LFS pointer, not the model: run `git lfs pull`",
    b"tjgg": "a GGJT file, from before GGUF: convert the original model again",
    b"fmgg": "a GGMF file, from before GGUF: convert the original model again",
    b"lmgg": "a GGML file, from before GGUF: convert the original model again",
    b"PK\x03\x04": "a zip archive (a PyTorch checkpoint?): give the Hugging Face directory, or unpack it",
    b"<!DO": "a web page: download the file itself",
    b"<htm": "a web page: download the file itself",
}


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of a GGUF file; an edit of it that was interrupted is undone first (``recover``).

    Raises:
        GgufError: not a readable, complete, little-endian GGUF v2 or v3 file, with the reason and the remedy.
    """
    path = Path(path)
    recover(path)
    with open_source(path) as file:
        lock(file, alone=False)
        stamp = FileStamp.of(file)
        scanner = Scanner(lambda start, length: read_some(file, start, length), stamp.size, str(path))
        version, n_tensors, n_fields = _scan_prefix(scanner)
        fields = _scan_fields(scanner, n_fields)
        alignment = _alignment(scanner, file, fields)
        tensors = tuple(_scan_tensor(scanner, index, n_tensors) for index in range(n_tensors))
        _refuse_duplicates(scanner, "tensor", (info.name for info in tensors))
        # llama.cpp pads only in front of tensors: vocabulary files without any end right behind their keys
        data_offset = align(scanner.pos, alignment) if tensors else scanner.pos
        _check_data(scanner, tensors, alignment, data_offset)
    return Header(path, version, fields, tensors, alignment, data_offset, stamp.size, stamp)


def parse_entry(data: bytes, label: str) -> Field:
    """Read one raw key-value entry, as ``Header.raw`` returned it; offsets are relative to it.

    Raises:
        GgufError: it is not exactly one well-formed entry.
    """
    scanner = Scanner(lambda start, length: data[start : start + length], len(data), label)
    entry = _scan_field(scanner, 0, 1)
    if entry.end != len(data):
        scanner.fail(f"is followed by {len(data) - entry.end} stray bytes")
    return entry


def align(offset: int, alignment: int) -> int:
    """``offset`` rounded up to a multiple of ``alignment``."""
    return -(-offset // alignment) * alignment


def _scan_prefix(scanner: Scanner) -> tuple[int, int, int]:
    """Return version, tensor count and key count."""
    if scanner.size == 0:
        raise GgufError(f"{scanner.label}: the file is empty; fetch it again")
    magic = scanner.bytes(min(4, scanner.size))
    if magic != b"GGUF":
        guess = _LOOKS_LIKE.get(magic, f"it starts with {magic!r} instead of b'GGUF'")
        raise GgufError(
            f"{scanner.label}: not a GGUF file: {guess}; convert the original model, or fetch the file again"
        )
    version = scanner.u32()
    if version & 0xFFFF == 0 and version:
        raise GgufError(f"{scanner.label}: big-endian GGUF; convert it with gguf-py's gguf_convert_endian.py first")
    if version not in (2, 3):
        remedy = "convert the original model again" if version < 2 else "update ggufrope"
        raise GgufError(f"{scanner.label}: GGUF version {version}, only 2 and 3 are supported; {remedy}")
    n_tensors, n_fields = scanner.u64(), scanner.u64()
    remaining = scanner.size - scanner.pos
    for what, count, least, most in (
        ("keys", n_fields, _MIN_FIELD_BYTES, MAX_FIELDS),
        ("tensors", n_tensors, _MIN_TENSOR_BYTES, MAX_TENSORS),
    ):
        if count > remaining // least:
            scanner.fail(f"claims {count} {what}, more than a file of {scanner.size} bytes can hold")
        if count > most:
            scanner.fail(f"claims {count} {what}, more than the {most} that ggufrope reads", "is it really a model?")
    return version, n_tensors, n_fields


def _scan_fields(scanner: Scanner, count: int) -> tuple[Field, ...]:
    fields, names = [], 0
    for index in range(count):
        entry = _scan_field(scanner, index, count)
        fields.append(entry)
        names += len(entry.key)
        if scanner.pos > MAX_HEADER_BYTES or names > MAX_KEYS_BYTES:
            most = f"{MAX_HEADER_BYTES >> 20} MiB"
            scanner.fail(f"makes the header longer than the {most} that ggufrope reads", "is it really a model?")
    _refuse_duplicates(scanner, "key", (entry.key for entry in fields))
    return tuple(fields)


def _scan_field(scanner: Scanner, index: int, total: int) -> Field:
    start = scanner.pos
    scanner.where = f"key {index + 1} of {total}"
    key = scanner.text(MAX_KEY_BYTES)
    if not key:
        scanner.fail("has an empty name")
    scanner.where = f"key {key!r}"
    kind, item_type, count = _value_type(scanner), None, 1
    if kind is ValueType.ARRAY:
        item_type, count = _value_type(scanner), scanner.u64()
        if item_type is ValueType.ARRAY:
            scanner.fail("is an array of arrays, which llama.cpp does not read", "remove it with gguf-py first")
    payload, single = scanner.pos, kind if item_type is None else item_type
    if single is ValueType.STRING:
        scanner.skip_strings(count)
    else:
        scanner.skip(count * single.width)
    return Field(key, kind, item_type, count, start, payload, scanner.pos)


def _value_type(scanner: Scanner) -> ValueType:
    number = scanner.u32()
    if number > max(ValueType):
        scanner.fail(f"has value type {number}, which GGUF does not define")
    return ValueType(number)


def _alignment(scanner: Scanner, file: BinaryIO, fields: Iterable[Field]) -> int:
    entry = next((entry for entry in fields if entry.key == ALIGNMENT), None)
    if entry is None:
        return DEFAULT_ALIGNMENT
    scanner.where = f"key '{ALIGNMENT}'"
    if entry.type is not ValueType.UINT32:
        scanner.fail(f"is {entry.type.name}, not UINT32", "convert the original model again")
    alignment = int.from_bytes(read_at(file, entry.payload, 4), "little")
    if not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        scanner.fail(f"is {alignment}, not a power of two up to {MAX_ALIGNMENT}", "convert the original model again")
    return alignment


def _scan_tensor(scanner: Scanner, index: int, total: int) -> TensorInfo:
    start = scanner.pos
    scanner.where = f"tensor {index + 1} of {total}"
    name = scanner.text(MAX_NAME_BYTES)
    scanner.where = f"tensor {name!r}"
    n_dims = scanner.u32()
    if n_dims > MAX_DIMS:
        scanner.fail(f"has {n_dims} dimensions, more than {MAX_DIMS}")
    shape = tuple(scanner.u64() for _ in range(n_dims))
    if prod(max(size, 1) for size in shape) >= 1 << 63:
        scanner.fail(f"has the impossible shape {shape}")
    ggml_type, offset = scanner.u32(), scanner.u64()
    if ggml_type not in GGML_TYPES:
        scanner.fail(f"has ggml type {ggml_type}, unknown to the pinned llama.cpp", "convert the original model again")
    try:
        nbytes = tensor_nbytes(shape, ggml_type)
    except ValueError as error:
        scanner.fail(f"cannot be {GGML_TYPES[ggml_type].name}: {error}")
    return TensorInfo(name, shape, ggml_type, offset, nbytes, start, scanner.pos)


def _check_data(scanner: Scanner, tensors: tuple[TensorInfo, ...], alignment: int, data_offset: int) -> None:
    if data_offset > min(scanner.size, MAX_HEADER_BYTES):
        scanner.where = "the header"
        scanner.fail(f"is {data_offset} bytes long, in a file of {scanner.size}")
    expected = 0
    for info in tensors:
        scanner.where = f"tensor {info.name!r}"
        if info.offset != expected:
            scanner.fail(f"starts at offset {info.offset} of the data, not {expected} where the one before it ends")
        # the last tensor's padding may be missing; some writers leave it out
        if data_offset + info.offset + info.nbytes > scanner.size:
            end = data_offset + info.offset + info.nbytes
            scanner.fail(f"ends at {end}, behind the end of the file ({scanner.size} bytes)")
        expected += align(info.nbytes, alignment)


def _refuse_duplicates(scanner: Scanner, what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            scanner.where = f"{what} {name!r}"
            scanner.fail("occurs twice", "convert the original model again")
        seen.add(name)

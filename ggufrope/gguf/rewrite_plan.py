"""What a rewritten file will consist of: a new header, and the pieces of data behind it. Nothing is written here.

Untouched entries and descriptions are carried as the bytes they were, and runs of untouched tensors, with the padding
between them, become one ``Copy`` each. So undoing an edit gives the source's bytes back, whichever program wrote it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from ..errors import GgufError, OutputError
from .ggml_types import F32
from .header import PREFIX_BYTES, Header, TensorInfo
from .keys import ALIGNMENT, PADDING
from .parse import MAX_DIMS, MAX_NAME_BYTES, align, parse_entry
from .reading import fingerprint
from .slack import Layout
from .values import TypedValue, encode_entry, encode_string

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    FloatArray = npt.NDArray[np.float32]

T = TypeVar("T")
_MAX_RECORDED_PADDING = 4096


class Edits(TypedDict, total=False):
    """What to change, all optional; the keyword arguments of ``plan_rewrite``, ``encode_header`` and ``rewrite``.

    A name that exists keeps its position when it is set; a new one goes to its ``insert`` position or to the end. A
    name that is both removed and set counts as new.
    """

    set: Mapping[str, TypedValue | bytes]  # a value, or a whole raw entry from Header.raw
    remove: Collection[str]  # keys; absent ones are ignored
    insert_at: Mapping[str, int]  # positions among all keys of the result, to restore removed ones
    add_tensors: Mapping[str, FloatArray]  # float32, in numpy's shape (the reverse of ggml's)
    drop_tensors: Collection[str]  # absent ones are ignored
    insert_tensors_at: Mapping[str, int]  # positions among all tensors of the result
    restore: Mapping[str, Any]  # original_facts() of the file that the result should equal
    layout: Layout  # where data starts, with ``ggufrope.padding`` as the last key; without: right behind the header


@dataclass(frozen=True, slots=True)
class Copy:
    """``length`` bytes of the source file from ``start``."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """A file to be written.

    Attributes:
        header: Everything in front of the tensor data, with padding.
        body: The data, in order: ranges of the source and literal bytes.
        restored: The result is, by the facts given as ``restore``, the original file: its header has the recorded
            hash, the file the recorded size. Always False without ``restore``. Not covered: padding behind a tensor
            that was dropped and put back is zero, whatever it was (every known writer uses zeros).
    """

    header: bytes
    body: tuple[Copy | bytes, ...]
    restored: bool

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return len(self.header) + _length(self.body)


def original_facts(header: Header) -> dict[str, Any]:
    """What ``restore`` needs to give this file back byte for byte after edits; a small JSON-able dict.

    ``header_bytes``, ``header_sha256`` and ``file_bytes`` always, and ``padding`` (hex) when the header's is not zero.
    """
    data = header.read(0, header.data_offset)
    padding = data[header.info_end :]
    facts = {
        "header_bytes": len(data),
        "header_sha256": fingerprint(data).hex(),
        "file_bytes": header.file_size,
    }
    if any(padding) and len(padding) <= _MAX_RECORDED_PADDING:
        facts["padding"] = padding.hex()
    return facts


def encode_header(header: Header, **edits: Unpack[Edits]) -> bytes:
    """The header of the edited file, padded to where its data starts. See ``Edits``; nothing is written.

    Raises:
        OutputError: an edit cannot be expressed in GGUF.
        GgufError: the source cannot be read, or a raw entry is malformed.
    """
    return plan_rewrite(header, **edits).header


def plan_rewrite(header: Header, **edits: Unpack[Edits]) -> RewritePlan:
    """Plan an edited copy of ``header``'s file. See ``Edits``; raises what ``encode_header`` raises."""
    if stray := edits.keys() - Edits.__annotations__.keys():
        raise TypeError(f"no such edits: {sorted(stray)}")
    source = header.read(0, header.data_offset)
    entries = _edit_fields(header, source, edits)
    infos, body, unpadded = _edit_tensors(header, source, edits)
    if infos and "layout" in edits:  # without tensors there is no data to keep in place
        length = PREFIX_BYTES + sum(map(len, entries)) + sum(map(len, infos))
        entries += filter(None, [edits["layout"].padding(length, header.alignment)])
    prefix = struct.pack("<4sIQQ", b"GGUF", header.version, len(infos), len(entries))
    start = b"".join((prefix, *entries, *infos))
    facts = edits.get("restore", {})
    new = start + _padding(len(start), header.alignment if infos else 1, facts)
    tail = Copy(header.data_offset + _data_end(header), header.file_size - header.data_offset - _data_end(header))
    if tail.length > 0:  # bytes behind the last tensor and its padding belong to nobody, and stay last
        body = _merge([*body, tail])
    restored = bool(facts) and facts.get("header_sha256") == fingerprint(new).hex()
    if restored:
        body, restored = _restore_end(body, facts, len(new), unpadded)
    return RewritePlan(new, tuple(body), restored)


def _edit_fields(header: Header, source: bytes, edits: Edits) -> list[bytes]:
    values, remove = edits.get("set", {}), edits.get("remove", ())
    if "layout" in edits:
        remove = {*remove, PADDING}  # replaced by one of the right size
    if ALIGNMENT in values or ALIGNMENT in remove:
        raise OutputError(
            f"{header.path}: {ALIGNMENT} moves all tensor data and cannot be edited; convert to another file"
        )
    encoded = {key: _entry_bytes(header, key, value) for key, value in values.items()}
    spans = {entry.key: source[entry.start : entry.end] for entry in header.fields}
    return [data for _, data in _arrange(spans, encoded, remove, edits.get("insert_at", {}))]


def _entry_bytes(header: Header, key: str, value: TypedValue | bytes) -> bytes:
    if isinstance(value, TypedValue):
        return encode_entry(key, value)
    label = f"{header.path}: the recorded entry of {key!r}"
    if (stored_key := parse_entry(value, label).key) != key:
        raise GgufError(f"{label} is one of {stored_key!r}; the file was tampered with: convert the original again")
    return value


def _edit_tensors(header: Header, source: bytes, edits: Edits) -> tuple[list[bytes], list[Copy | bytes], int]:
    """Return the new descriptions, the new data, and how many of its bytes must not be cut from its end."""
    added = {name: _tensor_bytes(header, name, array) for name, array in edits.get("add_tensors", {}).items()}
    kept: dict[str, TensorInfo | tuple[bytes, bytes]] = {info.name: info for info in header.tensors}
    order = _arrange(kept, added, edits.get("drop_tensors", ()), edits.get("insert_tensors_at", {}))
    infos: list[bytes] = []
    body: list[Copy | bytes] = []
    end = unpadded = 0
    for _, item in order:
        body.append(bytes(align(end, header.alignment) - end))  # the source may lack the padding of its last tensor
        offset = align(end, header.alignment)
        if isinstance(item, TensorInfo):
            description, piece, nbytes = source[item.start : item.end - 8], _data_span(header, item), item.nbytes
            end = offset + piece.length
            body.append(piece)
        else:
            description, data = item
            nbytes, end = len(data), offset + align(len(data), header.alignment)
            body.append(data + bytes(end - offset - nbytes))
        infos.append(description + struct.pack("<Q", offset))
        unpadded = offset + nbytes
    return infos, _merge(body), unpadded


def _tensor_bytes(header: Header, name: str, array: FloatArray) -> tuple[bytes, bytes]:
    """Description (without its offset) and data of a new tensor."""
    import numpy as np

    encoded = encode_string(name)
    if len(encoded) - 8 > MAX_NAME_BYTES or array.ndim > MAX_DIMS or array.dtype != np.float32:
        raise OutputError(
            f"{header.path}: tensor {name!r} of shape {array.shape} and type {array.dtype} cannot be added; GGUF allows"
            f" names of {MAX_NAME_BYTES} bytes and {MAX_DIMS} dimensions, and only float32 is written here"
        )
    shape = struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape[::-1])
    return encoded + shape + struct.pack("<I", F32), np.ascontiguousarray(array, "<f4").tobytes()


def _arrange(
    old: Mapping[str, T], new: Mapping[str, T], remove: Iterable[str], at: Mapping[str, int]
) -> list[tuple[str, T]]:
    """Replace in place, remove, insert at recorded positions (in rising order, so that each is right), append."""
    gone = frozenset(remove)
    result = [(name, new.get(name, item)) for name, item in old.items() if name not in gone]
    fresh = [name for name in new if name not in old or name in gone]
    for name in sorted((name for name in fresh if name in at), key=lambda name: at[name]):
        result.insert(max(at[name], 0), (name, new[name]))
    return result + [(name, new[name]) for name in fresh if name not in at]


def _data_span(header: Header, info: TensorInfo) -> Copy:
    """A tensor's data with its padding, as far as the file has it."""
    start = header.data_offset + info.offset
    return Copy(start, min(align(info.nbytes, header.alignment), header.file_size - start))


def _data_end(header: Header) -> int:
    """Where the last tensor's padding ends, relative to the data's start; may lie behind the end of the file."""
    last = header.tensors[-1] if header.tensors else None
    return 0 if last is None else last.offset + align(last.nbytes, header.alignment)


def _merge(pieces: Iterable[Copy | bytes]) -> list[Copy | bytes]:
    """Join neighbouring ranges of the source, and leave out empty pieces."""
    merged: list[Copy | bytes] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, Copy) and isinstance(last, Copy) and last.start + last.length == piece.start:
            merged[-1] = Copy(last.start, last.length + piece.length)
        elif _length([piece]):
            merged.append(piece)
    return merged


def _length(pieces: Iterable[Copy | bytes]) -> int:
    return sum(piece.length if isinstance(piece, Copy) else len(piece) for piece in pieces)


def _padding(length: int, alignment: int, facts: Mapping[str, Any]) -> bytes:
    zeros = bytes(align(length, alignment) - length)
    recorded = facts.get("padding")
    try:
        padding = bytes.fromhex(recorded) if isinstance(recorded, str) else zeros
    except ValueError:
        return zeros
    return padding if len(padding) == len(zeros) else zeros


def _restore_end(
    body: list[Copy | bytes], facts: Mapping[str, Any], header_bytes: int, unpadded: int
) -> tuple[list[Copy | bytes], bool]:
    """Cut off padding that the original did not have behind its last tensor; say whether the size is now right."""
    size = facts.get("file_bytes")
    excess = header_bytes + _length(body) - size if isinstance(size, int) else 0
    if excess > 0 and _length(body) - excess >= unpadded:
        last = body.pop()  # holds all of the excess, which is less than the last tensor's padding
        body.append(Copy(last.start, last.length - excess) if isinstance(last, Copy) else last[:-excess])
    return body, header_bytes + _length(body) == size

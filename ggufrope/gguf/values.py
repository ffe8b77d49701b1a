"""GGUF values: the type ids, encoding a value into bytes and decoding bytes into a value.

Everything is little-endian. A key-value entry is ``key (string), type (u32), value``; an array's value starts with
``item type (u32), count (u64)``; a string is ``length (u64), bytes``. Source: ``ggml/include/gguf.h`` of llama.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ..errors import OutputError
from ..text import shorten

MAX_KEY_BYTES = 65535  # the GGUF specification's limit; llama.cpp itself does not check it


class ValueType(IntEnum):
    """The ids that GGUF stores in front of a value."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12

    @property
    def short(self) -> str:
        """As people write it: ``u32``, ``f64``, ``str``, ``bool``, ``array``."""
        name = self.name.replace("UINT", "u").replace("INT", "i").replace("FLOAT", "f").replace("STRING", "str")
        return name.lower()

    @property
    def width(self) -> int:
        """Bytes of one value, or 0 where that depends on the value (strings and arrays)."""
        return _WIDTHS.get(self, 0)


# struct's letter and numpy's name for each fixed-width type. Stored booleans are bytes, and any non-zero byte is true.
_STRUCT = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "?",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}
_WIDTHS = {kind: struct.calcsize("<" + letter) for kind, letter in _STRUCT.items()}


@dataclass(frozen=True, slots=True)
class TypedValue:
    """A value together with the GGUF type it is stored as.

    Args:
        type: The scalar's type, or ``ValueType.ARRAY``.
        value: int, float, bool or str; for an array a list, tuple or 1-D numpy array of those.
        item_type: Type of the items, for arrays only. GGUF has no arrays of arrays.

    Raises:
        OutputError: ``value`` cannot be stored as that type.
    """

    type: ValueType
    value: Any
    item_type: ValueType | None = None

    def __post_init__(self) -> None:
        if (self.type is ValueType.ARRAY) != (self.item_type is not None) or self.item_type is ValueType.ARRAY:
            raise OutputError(f"a GGUF array needs a scalar item type and nothing else has one, not {self.item_type!r}")
        self.encode()

    @property
    def spelled(self) -> str:
        """The type as people write it: ``f64``, ``an array of 3 u32``."""
        return self.type.short if self.item_type is None else f"an array of {len(self.value)} {self.item_type.short}"

    def encode(self) -> bytes:
        """The bytes that follow the key in an entry: type id, then for arrays item type and count, then the value."""
        if self.item_type is None:
            return struct.pack("<I", self.type) + _encode_items(self.type, [self.value])
        items = self.value.tolist() if hasattr(self.value, "tolist") else list(self.value)
        return struct.pack("<IIQ", self.type, self.item_type, len(items)) + _encode_items(self.item_type, items)


def encode_string(text: str) -> bytes:
    """Length-prefixed UTF-8, as GGUF stores keys, names and string values."""
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def encode_entry(key: str, value: TypedValue) -> bytes:
    """One whole key-value entry, in the form that ``Header.raw`` returns.

    Raises:
        OutputError: the key is empty or longer than GGUF allows.
    """
    name = encode_string(key)
    if not key or len(name) - 8 > MAX_KEY_BYTES:
        raise OutputError(f"a GGUF key must have 1 to {MAX_KEY_BYTES} bytes; this one has {len(name) - 8}")
    return name + value.encode()


def _encode_items(kind: ValueType, items: Sequence[Any]) -> bytes:
    # struct checks integer ranges, but would take any object as a boolean and any number as a float
    wanted = {ValueType.STRING: str, ValueType.BOOL: bool}.get(kind, object)
    strays = [item for item in items if not isinstance(item, wanted)]
    if strays:
        raise OutputError(f"{shorten(strays[0])} cannot be stored as GGUF type {kind.name}: give a {wanted.__name__}")
    try:
        if kind is ValueType.STRING:
            return b"".join(map(encode_string, items))
        return struct.pack(f"<{len(items)}{_STRUCT[kind]}", *items)
    except (struct.error, TypeError, ValueError, OverflowError) as error:
        shown = shorten(items[0] if len(items) == 1 else items)
        raise OutputError(f"{shown} cannot be stored as GGUF type {kind.name}: {error}; give one that can") from None


def decode_items(kind: ValueType, payload: bytes, count: int) -> Any:
    """Decode an array's payload: a list of str, or a 1-D numpy array.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    if kind is ValueType.STRING:
        return _decode_strings(payload, count)
    import numpy as np

    if kind is ValueType.BOOL:
        return np.frombuffer(payload, np.uint8) != 0
    return np.frombuffer(payload, "<" + _STRUCT[kind])


def decode_scalar(kind: ValueType, payload: bytes) -> int | float | bool | str:
    """Decode the payload of a value that is not an array.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    if kind is ValueType.STRING:
        return payload[8:].decode("utf-8")
    value: int | float | bool = struct.unpack("<" + _STRUCT[kind], payload)[0]
    return value


def _decode_strings(payload: bytes, count: int) -> list[str]:
    length_at, pos, texts = struct.Struct("<Q").unpack_from, 0, []
    for _ in range(count):
        end = pos + 8 + length_at(payload, pos)[0]
        texts.append(payload[pos + 8 : end].decode("utf-8"))
        pos = end
    return texts

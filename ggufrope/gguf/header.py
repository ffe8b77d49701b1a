"""A GGUF header: where every key, value and tensor lies in the file. Values are decoded when they are asked for.

A header is walked, not loaded: a ``Field`` is a span of the file. What nobody asks for is never decoded, and what
nobody changes is later copied as the bytes it was. ``parse.read_header`` makes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import GgufError
from ..text import shorten
from .ggml_types import BF16, F16, F32, GGML_TYPES
from .keys import ARCHITECTURE
from .reading import FileStamp, open_source, read_at
from .values import TypedValue, ValueType, decode_items, decode_scalar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PREFIX_BYTES = 24  # magic, version, tensor count, key count


@dataclass(frozen=True, slots=True)
class Field:
    """One key-value entry as a span of the file.

    Attributes:
        key: Its name.
        type: The value's type; ``item_type`` and ``count`` are an array's (``None`` and 1 otherwise).
        start: Offset of the entry's first byte, where its key begins.
        payload: Offset of the value itself, behind the type ids and an array's count.
        end: Offset behind the entry's last byte.
    """

    key: str
    type: ValueType
    item_type: ValueType | None
    count: int
    start: int
    payload: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor's description.

    Attributes:
        name: Its name.
        shape: In ggml's order: ``shape[0]`` is the length of a row. numpy's order is the reverse.
        ggml_type: A key of ``GGML_TYPES``.
        offset: Where its data starts, relative to ``Header.data_offset``.
        nbytes: Size of its data, without padding.
        start: Offset of the description's first byte in the file; ``end`` is behind its last.
    """

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int
    nbytes: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked GGUF header. Values are read from ``path`` when they are asked for.

    Attributes:
        path: The file.
        version: 2 or 3; the two differ only in what byte orders they allow.
        fields: Every key-value entry, in file order.
        tensors: Every tensor, in file order; their data lies in that order without gaps.
        alignment: Every tensor's data starts at a multiple of this.
        data_offset: Where tensor data starts: the header's length with its padding.
        file_size: In bytes. May exceed the end of the last tensor.
        stamp: Identity of the file when it was read.
    """

    path: Path
    version: int
    fields: tuple[Field, ...]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    file_size: int
    stamp: FileStamp
    _by_key: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {entry.key: entry for entry in self.fields})

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def field(self, key: str) -> Field | None:
        """The entry called ``key``, or None."""
        return self._by_key.get(key)

    def tensor(self, name: str) -> TensorInfo | None:
        """The tensor called ``name``, or None."""
        return next((info for info in self.tensors if info.name == name), None)

    @property
    def info_end(self) -> int:
        """Offset behind the last tensor description; padding fills the space up to ``data_offset``."""
        if self.tensors:
            return self.tensors[-1].end
        return self.fields[-1].end if self.fields else PREFIX_BYTES

    @property
    def architecture(self) -> str:
        """``general.architecture``.

        Raises:
            GgufError: the key is absent or not a string.
        """
        name = self.get(ARCHITECTURE)
        if not isinstance(name, str) or not name:
            raise GgufError(f"{self.path}: {ARCHITECTURE} is {shorten(name)}, not a name; is this a model file?")
        return name

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key``: int, float, bool, str, a numpy array or a list of str; ``default`` when absent.

        Raises:
            GgufError: the file changed since it was read, or a string is not UTF-8.
        """
        entry = self._by_key.get(key)
        return default if entry is None else self._decode(entry)

    def typed(self, key: str) -> TypedValue:
        """The value of ``key`` with its GGUF type.

        Raises:
            KeyError: there is no such key.
            GgufError: see ``get``.
        """
        entry = self._by_key[key]
        return TypedValue(entry.type, self._decode(entry), entry.item_type)

    def raw(self, entry: Field) -> bytes:
        """The whole entry as it lies in the file: key, type ids and value."""
        return self.read(entry.start, entry.end)

    def read(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of the file.

        Raises:
            GgufError: the file cannot be read, or changed since the header was read.
        """
        with self.open() as file:
            return read_at(file, start, end - start)

    def open(self) -> BinaryIO:
        """Open the file for reading, unbuffered.

        Raises:
            GgufError: it cannot be opened, or is not the file that was read.
        """
        file = open_source(self.path)
        if FileStamp.of(file) != self.stamp:
            file.close()
            raise GgufError(f"{self.path}: the file changed while it was in use; wait until it is complete")
        return file

    def tensor_data(self, name: str) -> npt.NDArray[np.float32]:
        """A small F32, F16 or BF16 tensor as float32, in numpy's shape (the reverse of ggml's).

        Raises:
            KeyError: there is no such tensor.
            GgufError: it is of another type.
        """
        import numpy as np

        info = self.tensor(name)
        if info is None:
            raise KeyError(name)
        if info.ggml_type not in (F32, F16, BF16):
            kind = GGML_TYPES[info.ggml_type].name
            raise GgufError(f"{self.path}: tensor {name!r} is {kind}; only F32, F16 and BF16 tensors can be read here")
        begin = self.data_offset + info.offset
        data = self.read(begin, begin + info.nbytes)
        if info.ggml_type == BF16:
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, "<f4" if info.ggml_type == F32 else "<f2").astype(np.float32)
        return values.reshape(info.shape[::-1])

    def _decode(self, entry: Field) -> Any:
        payload = self.read(entry.payload, entry.end)
        try:
            if entry.item_type is None:
                return decode_scalar(entry.type, payload)
            return decode_items(entry.item_type, payload, entry.count)
        except UnicodeDecodeError as error:
            message = f"{self.path}: key {entry.key!r} is not UTF-8 ({error.reason}); convert the original model again"
            raise GgufError(message) from None

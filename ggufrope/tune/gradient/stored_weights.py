"""The tensors of a GGUF as floats, one at a time and not kept: what is read stays on the disk until it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from ggufrope.errors import UnsupportedModelError
from ggufrope.gguf.ggml_types import GGML_TYPES
from ggufrope.gguf.reading import read_at
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["StoredWeights"]


class StoredWeights:
    """The tensors of a single or split file, by GGUF's names and in numpy's shapes (the reverse of ggml's)."""

    def __init__(self, file: ModelFile) -> None:
        """Note where the tensors of a model's files lie.

        Raises:
            GgufError: a shard is missing.
        """
        self._file = file
        self._found = {info.name: (header, info) for header in file.headers for info in header.tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._found

    @property
    def names(self) -> tuple[str, ...]:
        """All tensors."""
        return tuple(self._found)

    def shape(self, name: str) -> tuple[int, ...]:
        """In numpy's order: ``(rows, row length)`` of a matrix."""
        return self._found[name][1].shape[::-1]

    def floats(self, name: str) -> NDArray[np.float32]:
        """A whole tensor, dequantized by gguf-py.

        Raises:
            UnsupportedModelError: gguf-py does not dequantize its type.
            GgufError: the file changed since its header was read.
        """
        rows = prod(self.shape(name)[:-1])
        return self._dequantized(name, self._read(name, [(0, rows)])).reshape(self.shape(name))

    def rows(self, name: str, which: slice | Sequence[int]) -> NDArray[np.float32]:
        """Some rows of a matrix, ``(rows, row length)``; the others are not read.

        Args:
            name: of the matrix.
            which: rows from the first to the one before the last, or the numbers of single ones.

        Raises:
            UnsupportedModelError, GgufError: see ``floats``.
        """
        spans = [(which.start, which.stop)] if isinstance(which, slice) else [(row, row + 1) for row in which]
        return self._dequantized(name, self._read(name, spans)).reshape(-1, self.shape(name)[-1])

    def _read(self, name: str, spans: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        """The bytes of rows from one to before another, ``(rows, bytes of a row)``: read, since pages of a mapped file
        would count as memory of the process.
        """
        header, info = self._found[name]
        begin, size = header.data_offset + info.offset, info.nbytes // prod(info.shape[1:])
        with header.open() as file:
            parts = [read_at(file, begin + first * size, (end - first) * size) for first, end in spans]
        return np.frombuffer(b"".join(parts) if len(parts) > 1 else parts[0], np.uint8).reshape(-1, size)

    def _dequantized(self, name: str, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        kind = self._found[name][1].ggml_type
        try:
            values = dequantize(rows, GGMLQuantizationType(kind))
        except (NotImplementedError, ValueError):
            raise UnsupportedModelError(
                f"{self._file.path}: tensor {name!r} is {GGML_TYPES[kind].name}, which gguf-py does not dequantize; "
                "--engine blind takes it"
            ) from None
        return np.asarray(values, dtype=np.float32)

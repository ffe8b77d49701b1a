"""The tensors of a GGUF as floats, one at a time and not kept: what is read stays on the disk until it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from ggufrope.errors import GgufError, UnsupportedModelError
from ggufrope.gguf.ggml_types import GGML_TYPES
from ggufrope.gguf.header import Header, TensorInfo
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["StoredWeights"]


class StoredWeights:
    """The tensors of a single or split file, by GGUF's names and in numpy's shapes (the reverse of ggml's)."""

    def __init__(self, file: ModelFile) -> None:
        """Map the files of a model.

        Raises:
            GgufError: a shard is missing, or a file changed since its header was read.
        """
        self._file = file
        self._found: dict[str, tuple[Header, TensorInfo]] = {}
        self._maps: dict[Path, NDArray[np.uint8]] = {}
        for header in file.headers:
            header.open().close()  # it is the file whose header was read
            self._maps[header.path] = np.memmap(header.path, dtype=np.uint8, mode="r")
            self._found |= {info.name: (header, info) for info in header.tensors}

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
        """
        return self._dequantized(name, self._rows(name)).reshape(self.shape(name))

    def rows(self, name: str, which: slice | Sequence[int]) -> NDArray[np.float32]:
        """Some rows of a matrix, ``(rows, row length)``; the others are not read.

        Raises:
            UnsupportedModelError: see ``floats``.
        """
        return self._dequantized(name, self._rows(name)[which]).reshape(-1, self.shape(name)[-1])

    def _rows(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor, ``(rows, bytes of a row)``."""
        header, info = self._found[name]
        begin = header.data_offset + info.offset
        data = self._maps[header.path][begin : begin + info.nbytes]
        if len(data) != info.nbytes:
            raise GgufError(f"{header.path}: tensor {name!r} ends behind the file; it changed while it was in use")
        return data.reshape(prod(info.shape[1:]), -1)

    def _dequantized(self, name: str, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        kind = self._found[name][1].ggml_type
        try:
            values = dequantize(np.ascontiguousarray(rows), GGMLQuantizationType(kind))
        except (NotImplementedError, ValueError):
            raise UnsupportedModelError(
                f"{self._file.path}: tensor {name!r} is {GGML_TYPES[kind].name}, which gguf-py does not dequantize; "
                "--engine blind takes it"
            ) from None
        return np.asarray(values, dtype=np.float32)

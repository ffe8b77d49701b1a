"""The C functions that our patches add to libllama (``patches/src/ggufrope.h``), called through ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufrope.errors import ParameterError, RuntimeLibraryError

__all__ = ["API_VERSION", "Api", "api_version"]

#: ``GGUFROPE_API_VERSION`` of the header that this file was written for.
API_VERSION = 2


def api_version(library: ctypes.CDLL) -> int:
    """Version of our interface in a loaded libllama; 0 when it is not patched."""
    if not hasattr(library, "ggufrope_api_version"):
        return 0
    function = library.ggufrope_api_version
    function.argtypes, function.restype = [], ctypes.c_uint32
    return int(function())


class Api:
    """Our functions of one loaded libllama. Models and contexts are llama.cpp's pointers, as llama_cpp has them."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Declare the functions' types.

        Raises:
            RuntimeLibraryError: The library is not patched, or by another version of the patches.
        """
        version = api_version(library)
        if version != API_VERSION:
            found = f"has interface {version}, expected {API_VERSION}" if version else "is not patched"
            raise RuntimeLibraryError(f"{library._name} {found}; run `ggufrope runtime build`")
        floats, size, pointer = ctypes.POINTER(ctypes.c_float), ctypes.c_size_t, ctypes.c_void_p
        self._method = _declare(library, "ggufrope_method", ctypes.c_char_p, pointer)
        self._count = _declare(library, "ggufrope_n_head_factors", size, pointer)
        self._get = _declare(library, "ggufrope_get_head_factors", ctypes.c_bool, pointer, floats, size)
        self._set = _declare(library, "ggufrope_set_head_factors", ctypes.c_bool, pointer, floats, size)
        self._n_rows = _declare(library, "ggufrope_n_length_rows", size, pointer)
        self._point = _declare(library, "ggufrope_length_point", ctypes.c_uint32, pointer, size)
        self._row = _declare(library, "ggufrope_get_length_row", ctypes.c_uint32, pointer)
        self._set_row = _declare(library, "ggufrope_set_length_row", ctypes.c_bool, pointer, ctypes.c_int32)
        self._hint = _declare(library, "ggufrope_set_length_hint", None, pointer, ctypes.c_uint32)
        self._error = _declare(library, "ggufrope_last_error", ctypes.c_char_p)

    def method(self, model: Any) -> str | None:
        """``ggufrope.method`` of the file; None when it has no keys of ours."""
        name = self._method(model)
        return None if name is None else bytes(name).decode("utf-8", errors="replace")

    def last_error(self) -> str:
        """The library's last message on this thread; empty when there was none."""
        return bytes(self._error() or b"").decode("utf-8", errors="replace").strip()

    def head_factors(self, model: Any, context: Any) -> npt.NDArray[np.float32]:
        """Factors that ``context`` uses, ``[sum of n_head_kv over the layers]``, row-major; all 1 when it has none.

        Raises:
            RuntimeLibraryError: The library refused; its own message.
        """
        factors = np.ones(int(self._count(model)), np.float32)
        if not self._get(context, _floats(factors), factors.size):
            raise RuntimeLibraryError(f"cannot read the head factors: {self.last_error()}")
        return factors

    def set_head_factors(self, model: Any, context: Any, factors: npt.ArrayLike) -> None:
        """Replace the factors of ``context``, whose memory must be empty.

        Raises:
            ParameterError: Their number is wrong, or one is not finite and positive.
            RuntimeLibraryError: The library refused; its own message.
        """
        values = np.ascontiguousarray(factors, np.float32).reshape(-1)
        expected = int(self._count(model))
        if values.size != expected:
            raise ParameterError(f"head factors: {values.size} values, expected {expected}, one for each KV head")
        if not np.all(np.isfinite(values) & (values > 0)):
            raise ParameterError("head factors: every value must be finite and above 0")
        if not self._set(context, _floats(values), values.size):
            raise RuntimeLibraryError(f"cannot set the head factors: {self.last_error()}")

    def length_points(self, model: Any) -> tuple[int, ...]:
        """The longest length that each row of the file's length table serves; empty when it has none."""
        return tuple(int(self._point(model, row)) for row in range(self._n_rows(model)))

    def length_row(self, context: Any) -> int:
        """The row that the memory of ``context`` is rotated by."""
        return int(self._row(context))

    def set_length_row(self, context: Any, row: int | None) -> None:
        """Make the next batches use ``row`` whatever their length; None: the row of the length again.

        Raises:
            ParameterError: There is no such row.
        """
        if (row is not None and row < 0) or not self._set_row(context, -1 if row is None else row):
            raise ParameterError(f"length row {row}: the file's table has no such row")

    def set_length_hint(self, context: Any, n_tokens: int) -> None:
        """Say before a prompt's first batch how long it will be, so that all its batches use one row."""
        self._hint(context, n_tokens)


def _declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.argtypes, function.restype = list(arguments), result
    return function


def _floats(array: npt.NDArray[np.float32]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

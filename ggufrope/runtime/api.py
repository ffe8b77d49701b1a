"""The C functions that our patches add to libllama (``patches/src/ggufrope.h``), called through ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from ggufrope.errors import ParameterError, RuntimeLibraryError
from ggufrope.runtime.declarations import declared

__all__ = ["API_VERSION", "Api", "api_version", "as_floats"]

#: ``GGUFROPE_API_VERSION`` of the header that this file was written for.
API_VERSION = 3


def api_version(library: ctypes.CDLL) -> int:
    """Version of our interface in a loaded libllama; 0 when it is not patched."""
    if not hasattr(library, "ggufrope_api_version"):
        return 0
    return int(declared(library, "ggufrope_api_version")())


class Api:
    """Our functions of one loaded libllama. Models and contexts are llama.cpp's pointers, as llama_cpp has them."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Declare the functions' types.

        Raises:
            RuntimeLibraryError: The library is not patched, or by another version of the patches.
        """
        version = api_version(library)
        if version != API_VERSION:
            problem = f"has interface {version}, expected {API_VERSION}" if version else "is not patched"
            raise RuntimeLibraryError(f"{library._name} {problem}; run `ggufrope runtime build`")
        self._method = declared(library, "ggufrope_method")
        self._count = declared(library, "ggufrope_n_head_factors")
        self._get = declared(library, "ggufrope_get_head_factors")
        self._set = declared(library, "ggufrope_set_head_factors")
        self._count_pairs = declared(library, "ggufrope_n_pair_factors")
        self._pair_offset = declared(library, "ggufrope_pair_factors_offset")
        self._get_pairs = declared(library, "ggufrope_get_pair_factors")
        self._set_pairs = declared(library, "ggufrope_set_pair_factors")
        self._n_rows = declared(library, "ggufrope_n_length_rows")
        self._point = declared(library, "ggufrope_length_point")
        self._row = declared(library, "ggufrope_get_length_row")
        self._pending = declared(library, "ggufrope_get_pending_length_row")
        self._n_layers = declared(library, "ggufrope_n_layers")
        self._offset = declared(library, "ggufrope_head_factors_offset")
        self._order = declared(library, "ggufrope_get_head_order")
        self._set_order = declared(library, "ggufrope_set_head_order")
        self._set_row = declared(library, "ggufrope_set_length_row")
        self._hint = declared(library, "ggufrope_set_length_hint")
        self._fallback = declared(library, "ggufrope_fallback")
        self._error = declared(library, "ggufrope_last_error")

    def method(self, model: Any) -> str | None:
        """``ggufrope.method`` of the file; None when it has no keys of ours."""
        name = self._method(model)
        return None if name is None else bytes(name).decode("utf-8", errors="replace")

    def fallback(self, context: Any) -> str:
        """Which ropes run on another device than their layer, and what that costs; empty when there are none."""
        return bytes(self._fallback(context) or b"").decode("utf-8", errors="replace")

    def last_error(self) -> str:
        """Why this thread's last call of the library failed; empty when it succeeded."""
        return bytes(self._error() or b"").decode("utf-8", errors="replace").strip()

    def head_factors(self, model: Any, context: Any) -> npt.NDArray[np.float32]:
        """Factors that ``context`` uses, ``[sum of n_head_kv over the layers]``, row-major; all 1 when it has none.

        Raises:
            RuntimeLibraryError: The library refused; its own message.
        """
        factors = np.ones(int(self._count(model)), np.float32)
        if not self._get(context, as_floats(factors), factors.size):
            raise RuntimeLibraryError(f"cannot read the head factors: {self.last_error()}; pair_factors() has them all")
        return factors

    def set_head_factors(self, model: Any, context: Any, factors: npt.ArrayLike) -> None:
        """Replace the factors of ``context``, whose memory must be empty.

        Raises:
            ParameterError: Their number is wrong, or one is not finite and positive.
            RuntimeLibraryError: The library refused; its own message.
        """
        values = _checked("head factors", factors, int(self._count(model)), "each KV head")
        if not self._set(context, as_floats(values), values.size):
            raise RuntimeLibraryError(f"cannot set the head factors: {self.last_error()}")

    def pair_factors(self, model: Any, context: Any) -> npt.NDArray[np.float32]:
        """Factors of each KV head's pairs, ``[sum of n_head_kv · rot_dim/2 over the layers]``; those of heads repeated.

        Raises:
            RuntimeLibraryError: The library refused; its own message.
        """
        factors = np.ones(int(self._count_pairs(model)), np.float32)
        if not self._get_pairs(context, as_floats(factors), factors.size):
            raise RuntimeLibraryError(
                f"cannot read the pair factors: {self.last_error()}; `ggufrope runtime build` makes a library that can"
            )
        return factors

    def set_pair_factors(self, model: Any, context: Any, factors: npt.ArrayLike) -> None:
        """Put factors for each KV head's pairs in place of what heads of ``context`` have; its memory must be empty.

        Raises:
            ParameterError: Their number is wrong, or one is not finite and positive.
            RuntimeLibraryError: The library refused; its own message.
        """
        values = _checked("pair factors", factors, int(self._count_pairs(model)), "each pair of each KV head")
        if not self._set_pairs(context, as_floats(values), values.size):
            raise RuntimeLibraryError(f"cannot set the pair factors: {self.last_error()}")

    def pair_offsets(self, model: Any) -> tuple[int, ...]:
        """``layer_offsets`` of the array of pair factors; within a layer KV heads come first, then pairs."""
        return tuple(int(self._pair_offset(model, layer)) for layer in range(int(self._n_layers(model)) + 1))

    def layer_offsets(self, model: Any) -> tuple[int, ...]:
        """Where each layer begins in the array of head factors, and its length at the end; ``[layers + 1]``.

        Layers may have different numbers of KV heads: those of layer ``i`` are ``factors[offsets[i]:offsets[i + 1]]``.
        """
        return tuple(int(self._offset(model, layer)) for layer in range(int(self._n_layers(model)) + 1))

    def head_order(self, context: Any) -> str:
        """How a layer's factors are handed out to its heads: a value of ``ggufrope.head_order``."""
        return bytes(self._order(context)).decode("ascii")

    def set_head_order(self, context: Any, order: str) -> None:
        """Replace that order in ``context``, whose memory must be empty.

        Raises:
            RuntimeLibraryError: The library refused: another order needs head factors, and one sequence.
        """
        if not self._set_order(context, order.encode()):
            raise RuntimeLibraryError(
                f"cannot set the order of heads: {self.last_error()}; use static, or a context that fits"
            )

    def length_points(self, model: Any) -> tuple[int, ...]:
        """The longest length that each row of the file's length table serves; empty when it has none."""
        return tuple(int(self._point(model, row)) for row in range(self._n_rows(model)))

    def length_row(self, context: Any) -> int:
        """The row in use, that the memory of ``context`` is rotated by."""
        return int(self._row(context))

    def pending_length_row(self, context: Any) -> int | None:
        """The row that a pin or a hint asks for and the next batch takes; None if the row in use serves it."""
        row = int(self._pending(context))
        return None if row < 0 else row

    def set_length_row(self, context: Any, row: int | None) -> None:
        """Make the next batches use ``row`` whatever their length; None: the row of the length again.

        Raises:
            ParameterError: There is no such row.
        """
        if (row is not None and row < 0) or not self._set_row(context, -1 if row is None else row):
            raise ParameterError(f"length row {row}: the file's table has no such row; use one that it has")

    def set_length_hint(self, context: Any, n_tokens: int) -> None:
        """Say before a prompt's first batch how long it will be, so that all its batches use one row."""
        self._hint(context, n_tokens)


def as_floats(array: npt.NDArray[np.float32]) -> Any:
    """A pointer to the array's memory, as the functions here take it."""
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _checked(name: str, factors: npt.ArrayLike, expected: int, each: str) -> npt.NDArray[np.float32]:
    values = np.ascontiguousarray(factors, np.float32).reshape(-1)
    if values.size != expected:
        raise ParameterError(f"{name}: {values.size} values, expected {expected}, one for {each}")
    if not np.all(np.isfinite(values) & (values > 0)):
        raise ParameterError(f"{name}: every value must be finite and above 0")
    return values

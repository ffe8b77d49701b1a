"""``ggml_rope_ext`` and its relatives of a built ggml, called through ctypes; and the same rotation in float64 numpy.

Also what backends fuse with it: RMS_NORM and MUL before, SET_ROWS (a write into a KV cache) after.

The reference follows ggml.h's description of the op (and the YaRN paper), not the kernels: it shares no code with them.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_bool, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["EPS", "MODES", "Ggml", "Rope"]

MODES = {"norm": 0, "neox": 2, "mrope": 8, "vision": 24, "imrope": 40}
_TYPES = {np.dtype("f4"): 0, np.dtype("f2"): 1, np.dtype("i4"): 26, np.dtype("i8"): 27}
#: Of the fused norm; small, so that it matters only where a head is all but zero.
EPS = 1e-6


@dataclass(frozen=True)
class Rope:
    """One rotation.

    Attributes:
        mode: A key of ``MODES``.
        n_dims: Rotated dimensions of a head (for ``vision`` half of the head, all of which rotates).
        offset: First rotated dimension.
        sections: Pairs per position component, for the last three modes.
        n_ctx_orig, freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow: As in ggml.h.
        backward: Rotate the other way.
        inplace: Overwrite the input.
    """

    mode: str
    n_dims: int
    offset: int = 0
    sections: tuple[int, int, int, int] = (0, 0, 0, 0)
    n_ctx_orig: int = 0
    freq_base: float = 10000.0
    freq_scale: float = 1.0
    ext_factor: float = 0.0
    attn_factor: float = 1.0
    beta_fast: float = 0.0
    beta_slow: float = 0.0
    backward: bool = False
    inplace: bool = False

    @property
    def n_pos(self) -> int:
        """Position components of a token."""
        return 4 if MODES[self.mode] & 8 else 1

    def reference(
        self, x: np.ndarray, pos: np.ndarray, factors: np.ndarray | None, ulps_per_octave: float = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rotate ``x`` ``[batch, token, head, dim]``; ``pos`` ``[n_pos, token]``; ``factors`` ``[row, pair]`` or None.

        Returns:
            The result in float64, and how far a float32 kernel may be off it, element by element: an angle of ``a``
            radians is known to a few of its units in the last place, also after repeated multiplication, and to
            ``ulps_per_octave`` more for each halving of the frequency where powers are taken by exp2.
        """
        x = x.astype(np.float64)
        pairs = np.arange(self.n_dims if self.mode == "vision" else self.n_dims // 2)
        component, exponent = self._sections(pairs)
        power = self.freq_base ** (-2.0 * exponent / self.n_dims)
        angle = pos.astype(np.float64)[component].T[:, None, :] * power  # [token, 1, pair]
        if factors is not None:
            rows = np.repeat(factors[:, : len(pairs)], x.shape[2] // len(factors), axis=0)
            angle = angle / rows[None]
        angle, scale = self._yarn(angle, pairs)
        turned = np.exp((-1j if self.backward else 1j) * angle) * scale

        first = self.offset + (2 * pairs if self.mode == "norm" else pairs)
        second = first + (1 if self.mode == "norm" else len(pairs))
        rotated = (x[..., first] + 1j * x[..., second]) * turned
        out, slack = x.copy(), np.zeros_like(x)
        out[..., first], out[..., second] = rotated.real, rotated.imag
        ulps = exponent + 4 - ulps_per_octave * np.log2(power)
        error = np.abs(rotated) * (np.abs(angle) * 2.0**-23 * ulps + 2.0**-20)
        slack[..., first] = slack[..., second] = error
        return out, slack

    def _sections(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position component and exponent of each pair."""
        if self.n_pos == 1:
            return np.zeros_like(pairs), pairs
        t, h, w, _ = self.sections
        sector = pairs % sum(self.sections)
        if self.mode == "imrope":
            kind = sector % 3
            size = np.array([t, h, w])[kind]
            return np.where(sector < 3 * size, kind, 3), pairs
        component = np.searchsorted(np.cumsum(self.sections), sector, side="right")
        start = np.concatenate([[0], np.cumsum(self.sections)])[component]
        return component, sector - start if self.mode == "vision" else pairs

    def _yarn(self, angle: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, float]:
        if self.ext_factor == 0:
            return angle * self.freq_scale, self.attn_factor
        low, high = (
            self.n_dims * np.log(self.n_ctx_orig / (2 * np.pi * turns)) / (2 * np.log(self.freq_base))
            for turns in (self.beta_fast, self.beta_slow)
        )
        low, high = max(0, np.floor(low)), min(self.n_dims - 1, np.ceil(high))
        mix = self.ext_factor * (1 - np.clip((pairs - low) / max(0.001, high - low), 0, 1))
        scale = self.attn_factor * (1 + 0.1 * np.log(1 / self.freq_scale))
        return angle * (self.freq_scale * (1 - mix) + mix), scale


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class Ggml:
    """The part of ggml that a rotation on the CPU needs."""

    #: Whether tensors live on another backend, which also computes them.
    elsewhere = False
    #: Units in the last place by which its powers may be off for each unit of their binary logarithm.
    ulps_per_octave = 0

    def __init__(self, directory: Path) -> None:
        name = {"darwin": "lib{}.dylib", "win32": "{}.dll"}.get(sys.platform, "lib{}.so")
        self.base = ctypes.CDLL(str(directory / name.format("ggml-base")))
        tensor, base = c_void_p, self.base
        rope_tail = [c_int, c_int, *[c_float] * 6]
        plain = [c_void_p, tensor, tensor, tensor, c_int, *rope_tail]
        multi = [c_void_p, tensor, tensor, tensor, c_int, POINTER(c_int), *rope_tail]
        for function, result, arguments in (
            (base.ggml_init, c_void_p, [_InitParams]),
            (base.ggml_free, None, [c_void_p]),
            (base.ggml_new_tensor, tensor, [c_void_p, c_int, c_int, POINTER(c_int64)]),
            (base.ggml_get_data, c_void_p, [tensor]),
            (base.ggml_view_4d, tensor, [c_void_p, tensor, *[c_int64] * 4, *[c_size_t] * 4]),
            (base.ggml_rope_set_offset, tensor, [tensor, c_int]),
            (base.ggml_rms_norm, tensor, [c_void_p, tensor, c_float]),
            (base.ggml_mul, tensor, [c_void_p, tensor, tensor]),
            (base.ggml_view_2d, tensor, [c_void_p, tensor, c_int64, c_int64, c_size_t, c_size_t]),
            (base.ggml_set_rows, tensor, [c_void_p, tensor, tensor, tensor]),
            (base.ggml_new_graph, c_void_p, [c_void_p]),
            (base.ggml_build_forward_expand, None, [c_void_p, tensor]),
            *((getattr(base, f"ggml_rope_ext{kind}"), tensor, plain) for kind in ("", "_inplace", "_back")),
            *((getattr(base, f"ggml_rope_multi{kind}"), tensor, multi) for kind in ("", "_inplace", "_back")),
        ):
            function.restype, function.argtypes = result, arguments
        if not self.elsewhere:
            self.cpu = ctypes.CDLL(str(directory / name.format("ggml-cpu"))).ggml_graph_compute_with_ctx
            self.cpu.restype, self.cpu.argtypes = c_int32, [c_void_p, c_void_p, c_int]

    def rotate(
        self, rope: Rope, x: np.ndarray, pos: np.ndarray, factors: np.ndarray | None, threads: int = 1, gap: int = 0
    ) -> np.ndarray:
        """``Rope.reference``'s first result, by the kernel; ``gap`` unused heads between tokens: a view of more."""
        context = self.base.ggml_init(_InitParams(64 << 20, None, self.elsewhere))
        try:
            batch, token, head, dim = x.shape
            whole = np.zeros((batch, token, head + gap, dim), x.dtype)
            whole[:, :, :head] = x
            a = self._tensor(context, whole)
            if gap:
                strides = (whole.strides[2], whole.strides[1], whole.strides[0])
                a = self.base.ggml_view_4d(context, a, dim, head, token, batch, *strides, 0)
            b = self._tensor(context, pos.astype(np.int32).ravel())
            c = None if factors is None else self._tensor(context, factors.astype(np.float32))
            out = self._rope(context, rope, a, b, c)
            self.compute(context, out, threads)
            data = self._data(out, whole.shape if rope.inplace else x.shape, x.dtype)
            return data[:, :, :head].copy()
        finally:
            self.base.ggml_free(context)

    def rotate_fused(
        self,
        rope: Rope,
        x: np.ndarray,
        pos: np.ndarray,
        factors: np.ndarray | None,
        weight: np.ndarray | None = None,
        cells: np.ndarray | None = None,
        cache: np.ndarray | None = None,
    ) -> np.ndarray:
        """A rotation with its neighbours in a model's graph, computed as one.

        Args:
            rope, x, pos, factors: As in ``rotate``; ``x`` is float32, of one batch if there is a cache.
            weight: ``[dim]``: ``x`` is normed and multiplied by it first.
            cells: ``[token]``, int64: where each token goes in ``cache`` ``[cell, head * dim]``, of which a copy
                is returned.
        """
        context = self.base.ggml_init(_InitParams(64 << 20, None, self.elsewhere))
        try:
            batch, token, head, dim = x.shape
            a = self._tensor(context, x)
            if weight is not None:
                a = self.base.ggml_mul(context, self.base.ggml_rms_norm(context, a, EPS), self._tensor(context, weight))
            b = self._tensor(context, pos.astype(np.int32).ravel())
            c = None if factors is None else self._tensor(context, factors.astype(np.float32))
            out = self._rope(context, rope, a, b, c)
            shape, dtype = x.shape, x.dtype
            if cells is not None and cache is not None:
                rows = self.base.ggml_view_2d(context, out, dim * head, token * batch, dim * head * 4, 0)
                out = self.base.ggml_set_rows(
                    context, self._tensor(context, cache), rows, self._tensor(context, cells.astype(np.int64))
                )
                shape, dtype = cache.shape, cache.dtype
            self.compute(context, out, 1)
            return self._data(out, shape, dtype)
        finally:
            self.base.ggml_free(context)

    def compute(self, context: int, out: int, threads: int) -> None:
        """Compute tensor ``out`` and all that it needs, in ``context``."""
        graph = self.base.ggml_new_graph(context)
        self.base.ggml_build_forward_expand(graph, out)
        if self.cpu(context, graph, threads) != 0:
            raise RuntimeError("ggml_graph_compute_with_ctx")

    def _data(self, tensor: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer(ctypes.string_at(self.base.ggml_get_data(tensor), size), dtype).reshape(shape)

    def _new_tensor(self, context: int, array: np.ndarray) -> int:
        shape = (c_int64 * array.ndim)(*array.shape[::-1])
        tensor: int = self.base.ggml_new_tensor(context, _TYPES[array.dtype], array.ndim, shape)
        return tensor

    def _tensor(self, context: int, array: np.ndarray) -> int:
        tensor = self._new_tensor(context, array)
        array = np.ascontiguousarray(array)
        ctypes.memmove(self.base.ggml_get_data(tensor), array.ctypes.data, array.nbytes)
        return tensor

    def _rope(self, context: int, rope: Rope, a: int, b: int, c: int | None) -> int:
        kind = "_back" if rope.backward else "_inplace" if rope.inplace else ""
        function = getattr(self.base, f"ggml_rope_{'multi' if rope.n_pos == 4 else 'ext'}{kind}")
        sections = [(c_int * 4)(*rope.sections)] if rope.n_pos == 4 else []
        numbers = (rope.freq_base, rope.freq_scale, rope.ext_factor, rope.attn_factor, rope.beta_fast, rope.beta_slow)
        out: int = function(context, a, b, c, rope.n_dims, *sections, MODES[rope.mode], rope.n_ctx_orig, *numbers)
        return self.base.ggml_rope_set_offset(out, rope.offset) if rope.offset else out

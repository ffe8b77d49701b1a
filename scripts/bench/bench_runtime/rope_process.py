"""The rope op alone, timed on request, with the ggml of one build and one thread.

    rope_process.py LIBRARIES

Says "ready", then answers lines of "TOKENS HEADS DIM ROWS COUNT" with the seconds that COUNT ropes took.
"""

from __future__ import annotations

import ctypes
import sys
import time
from ctypes import c_bool, c_float, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

F32, I32 = 0, 26


class InitParams(ctypes.Structure):
    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class Ggml:
    """The few functions that this needs."""

    def __init__(self, libraries: Path) -> None:
        suffix = "dylib" if sys.platform == "darwin" else "so"
        base, cpu = (ctypes.CDLL(str(libraries / f"lib{name}.{suffix}")) for name in ("ggml-base", "ggml-cpu"))
        self.init, self.free, self.tensor, self.data = (
            getattr(base, f"ggml_{name}") for name in ("init", "free", "new_tensor_3d", "get_data")
        )
        self.rope, self.graph, self.expand, self.compute = (
            base.ggml_rope_ext_inplace,
            base.ggml_new_graph,
            base.ggml_build_forward_expand,
            cpu.ggml_graph_compute_with_ctx,
        )
        self.init.restype, self.init.argtypes = c_void_p, [InitParams]
        self.free.restype, self.free.argtypes = None, [c_void_p]
        self.tensor.restype, self.tensor.argtypes = c_void_p, [c_void_p, c_int, *[c_int64] * 3]
        self.data.restype, self.data.argtypes = c_void_p, [c_void_p]
        self.rope.restype, self.rope.argtypes = c_void_p, [*[c_void_p] * 4, *[c_int] * 3, *[c_float] * 6]
        self.graph.restype, self.graph.argtypes = c_void_p, [c_void_p]
        self.expand.restype, self.expand.argtypes = None, [c_void_p, c_void_p]
        self.compute.argtypes = [c_void_p, c_void_p, c_int]

    def put(self, context: int, array: np.ndarray) -> int:
        """A tensor that holds ``array``, float32 or int32."""
        sizes = [*array.shape[::-1], 1, 1][:3]
        tensor: int = self.tensor(context, F32 if array.dtype == np.float32 else I32, *sizes)
        ctypes.memmove(self.data(tensor), array.ctypes.data, array.nbytes)
        return tensor


def seconds(ggml: Ggml, tokens: int, heads: int, dim: int, rows: int, count: int) -> float:
    """Time of ``count`` rotations in place of ``[tokens, heads, dim]`` by factors ``[rows, dim/2]``."""
    rng = np.random.default_rng(0)
    context = ggml.init(InitParams((16 << 20) + 4 * tokens * heads * dim, None, False))
    out = ggml.put(context, rng.standard_normal((tokens, heads, dim), dtype=np.float32))
    pos = ggml.put(context, np.arange(1000, 1000 + tokens, dtype=np.int32))
    factors = ggml.put(context, rng.uniform(1.2, 1.8, (rows, dim // 2)).astype(np.float32))
    for _ in range(count):
        out = ggml.rope(context, out, pos, factors, dim, 0, 0, 10000.0, 1.0, 0.0, 1.0, 32.0, 1.0)
    graph = ggml.graph(context)
    ggml.expand(graph, out)
    ggml.compute(context, graph, 1)  # the first touches its memory
    start = time.perf_counter()
    ggml.compute(context, graph, 1)
    elapsed = time.perf_counter() - start
    ggml.free(context)
    return elapsed


def main(libraries: str) -> None:
    ggml = Ggml(Path(libraries))
    print("ready", flush=True)
    for line in sys.stdin:
        print(seconds(ggml, *map(int, line.split())), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

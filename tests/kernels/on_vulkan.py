"""A built libggml-vulkan on a Vulkan driver, really executed, on the cases that every backend's rope kernels must pass.

Any driver does; without a GPU it is Mesa's CPU driver, which upstream only uses when ``GGML_VK_VISIBLE_DEVICES`` names
it. The library lives in a process of its own: a second ggml in one process would be taken for the first, and a driver
that crashes must not take pytest along.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from ctypes import c_bool, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from ggml_rope import Ggml

from ggufrope.runtime.locate import library_name

__all__ = ["CannotRunError", "OnVulkan", "VulkanProcess"]


class CannotRunError(RuntimeError):
    """There is no device, or it does not take an op."""


class OnVulkan(Ggml):
    """``Ggml`` whose tensors live on, and whose ropes are run by, the first visible Vulkan device.

    Raises:
        CannotRunError: No device is visible.
    """

    elsewhere = True
    #: The shaders take powers, whose precision Vulkan derives from exp2(y * log2(x)); of exp2(x) it asks for 3 + 2|x|.
    #: Mesa's CPU driver was seen 10.6 units off where 11 were allowed for a product of eight factors.
    ulps_per_octave = 2

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        vulkan, base = ctypes.CDLL(str(directory / library_name("ggml-vulkan"))), self.base
        for function, result, arguments in (
            (vulkan.ggml_backend_vk_get_device_count, c_int, []),
            (vulkan.ggml_backend_vk_init, c_void_p, [c_size_t]),
            (base.ggml_backend_alloc_ctx_tensors, c_void_p, [c_void_p, c_void_p]),
            (base.ggml_backend_buffer_free, None, [c_void_p]),
            (base.ggml_backend_tensor_set, None, [c_void_p, c_void_p, c_size_t, c_size_t]),
            (base.ggml_backend_tensor_get, None, [c_void_p, c_void_p, c_size_t, c_size_t]),
            (base.ggml_backend_supports_op, c_bool, [c_void_p, c_void_p]),
            (base.ggml_backend_graph_compute, c_int, [c_void_p, c_void_p]),
            (base.ggml_graph_n_nodes, c_int, [c_void_p]),
            (base.ggml_graph_node, c_void_p, [c_void_p, c_int]),
            (base.ggml_nbytes, c_size_t, [c_void_p]),
        ):
            function.restype, function.argtypes = result, arguments
        if vulkan.ggml_backend_vk_get_device_count() == 0:
            raise CannotRunError("no Vulkan device is visible")
        self.backend = vulkan.ggml_backend_vk_init(0)
        self.buffer: int | None = None
        self.contents: list[tuple[int, np.ndarray]] = []

    def compute(self, context: int, out: int, threads: int) -> None:
        del threads
        base, contents = self.base, self.contents
        self.contents = []
        if self.buffer:
            base.ggml_backend_buffer_free(self.buffer)
        self.buffer = base.ggml_backend_alloc_ctx_tensors(context, self.backend)
        for tensor, array in contents:
            base.ggml_backend_tensor_set(tensor, array.ctypes.data, 0, array.nbytes)
        graph = base.ggml_new_graph(context)
        base.ggml_build_forward_expand(graph, out)
        for i in range(base.ggml_graph_n_nodes(graph)):
            if not base.ggml_backend_supports_op(self.backend, base.ggml_graph_node(graph, i)):
                raise CannotRunError(f"the backend refuses node {i} of the graph")
        if base.ggml_backend_graph_compute(self.backend, graph) != 0:
            raise CannotRunError("ggml_backend_graph_compute")

    def _tensor(self, context: int, array: np.ndarray) -> int:
        tensor = self._new_tensor(context, array)
        self.contents.append((tensor, np.ascontiguousarray(array)))
        return tensor

    def _data(self, tensor: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        data = np.zeros(shape, dtype)  # of a view, what lies behind its last element stays zero
        size = min(data.nbytes, self.base.ggml_nbytes(tensor))
        self.base.ggml_backend_tensor_get(tensor, data.ctypes.data, 0, size)
        return data


class VulkanProcess:
    """An ``OnVulkan`` in a process of its own, with its output in ``log``."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.log = log
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(directory, log))

    def start(self) -> None:
        """Make it.

        Raises:
            CannotRunError: That failed; the message says why.
        """
        if problem := self.pool.submit(_problem).result(timeout=300):
            raise CannotRunError(problem)

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``function(OnVulkan, *args, **kwargs)``, computed there."""
        return self.pool.submit(_call, function, args, kwargs).result(timeout=600)

    def method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """``OnVulkan.name(*args, **kwargs)``, computed there."""
        return self.pool.submit(_method, name, args, kwargs).result(timeout=600)

    def fusions(self) -> set[str]:
        """Ops that were computed as one since the last call, by upstream's names."""
        self.pool.submit(_flush).result()
        text = self.log.read_text(encoding="utf-8", errors="replace")
        self.log.write_text("", encoding="utf-8")
        return set(re.findall(r"^(\w*ROPE\w*)\b", text, re.MULTILINE))

    def close(self) -> None:
        """End the process."""
        self.pool.shutdown()


_there: list[OnVulkan | str] = []


def _start(directory: Path, log: Path) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.setdefault("GGML_VK_VISIBLE_DEVICES", "0")
    os.environ["GGML_VK_PERF_LOGGER"] = "1"  # prints the name of each op, fused ones too
    try:
        _there.append(OnVulkan(directory))
    except (CannotRunError, OSError, AttributeError) as error:
        _there.append(str(error))


def _problem() -> str:
    return _there[0] if isinstance(_there[0], str) else ""


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(_there[0], *args, **kwargs)


def _method(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return getattr(_there[0], name)(*args, **kwargs)


def _flush() -> None:
    ctypes.CDLL(None).fflush(None)

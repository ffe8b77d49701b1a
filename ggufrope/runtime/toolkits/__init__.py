"""One file for each kind of GPU: what is needed to compile for it, where it was found, or how to get it."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from ggufrope.errors import NotHonouredError, UsageError
from ggufrope.runtime.toolkits.cuda import find_cuda
from ggufrope.runtime.toolkits.hip import find_hip
from ggufrope.runtime.toolkits.toolkit import Toolkit
from ggufrope.runtime.toolkits.vulkan import find_vulkan

__all__ = ["BACKENDS", "Toolkit", "find_toolkit"]


def _cpu(_: tuple[str, ...]) -> Toolkit:
    return Toolkit(options={"GGML_METAL": "OFF"})


def _metal(_: tuple[str, ...]) -> Toolkit:
    note = "Metal's patched rope kernels have never run on a Mac: check results before you rely on them"
    return Toolkit(options={"GGML_METAL": "ON", "GGML_METAL_EMBED_LIBRARY": "ON"}, notes=(note,))


#: Every backend of ``runtime build``, in the order in which a finished build is preferred.
BACKENDS: MappingProxyType[str, Callable[[tuple[str, ...]], Toolkit]] = MappingProxyType(
    {"cuda": find_cuda, "hip": find_hip, "metal": _metal, "vulkan": find_vulkan, "cpu": _cpu}
)


def find_toolkit(backend: str, architectures: tuple[str, ...] = ()) -> Toolkit:
    """What a build for ``backend`` needs.

    Args:
        backend: A key of ``BACKENDS``.
        architectures: GPUs to compile for; those that are here if empty. For cuda and hip alone.

    Raises:
        NotHonouredError: There is no such backend.
        UsageError: Architectures for a backend that has none, or malformed ones.
        BuildError: Something is missing; one line that says what, and how to get it.
    """
    if backend not in BACKENDS:
        raise NotHonouredError(f"no backend {backend!r}; choose from {', '.join(BACKENDS)}")
    if architectures and backend in ("cpu", "metal"):
        raise UsageError(f"--gpu-arch is for cuda and hip; omit it with {backend}")
    return BACKENDS[backend](architectures)

"""The devices that a build sees, and what each of them does with a rope of several rows of factors.

Asked of the library itself (``ggml_backend_dev_supports_op``, where the patches' guard stands), in a process of its
own: a driver's library that fails, or prints, does it there, and two builds never meet in one process.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufrope.errors import RuntimeLibraryError
from ggufrope.runtime.declarations import InitParams, declared
from ggufrope.runtime.locate import Runtime, library_name

__all__ = ["Device", "devices"]

_KINDS = ("cpu", "gpu", "igpu", "accelerator", "meta")  # enum ggml_backend_dev_type
#: GGML_ROPE_TYPE_*; the kinds of rope that the architectures use.
_MODES = {"norm": 0, "neox": 2, "multi": 8, "vision": 24, "interleaved multi": 40}
_F32, _F16, _I32 = 0, 1, 26  # enum ggml_type
_HEADS, _HEAD_DIM, _TOKENS = 4, 64, 8


@dataclass(frozen=True, slots=True)
class Device:
    """One device.

    Attributes:
        name: As in ``--device``, such as ``CUDA0``.
        description: The chip.
        kind: ``cpu``, ``gpu``, ``igpu``, ``accelerator`` or ``meta``.
        backend: The backend's own name, such as ``CUDA``.
        memory_free: Bytes.
        memory_total: Bytes.
        per_head_rope: ``native``: it has kernels for one row of factors per head. ``cpu``: it refuses such ropes, and
            the scheduler runs them on the CPU. ``ignored``: an unpatched build, which takes the first row for all
            heads. ``none``: it runs no ropes at all.
        not_native: Where some are native, the kinds of rope that are not, such as ``vision f16``.
    """

    name: str
    description: str
    kind: str
    backend: str
    memory_free: int
    memory_total: int
    per_head_rope: str
    not_native: tuple[str, ...] = ()

    def __str__(self) -> str:
        verdict = {
            "native": "per-head RoPE: native",
            "cpu": "per-head RoPE: on the CPU",
            "ignored": "per-head RoPE: not in this unpatched build",
            "none": "no RoPE",
        }[self.per_head_rope]
        but = f", but on the CPU: {', '.join(self.not_native)}" if self.not_native else ""
        memory = f"{self.memory_free / 2**30:.1f} of {self.memory_total / 2**30:.1f} GiB free"
        return f"{self.name} ({self.backend}, {self.kind}): {self.description}, {memory}; {verdict}{but}"


def devices(runtime: Runtime) -> tuple[Device, ...]:
    """The devices of ``runtime``, the CPU last.

    Raises:
        RuntimeLibraryError: Its libraries cannot be loaded here; the loader's or the driver's own reason.
    """
    command = [sys.executable, "-m", __name__, str(runtime.path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        return tuple(Device(**facts | {"not_native": tuple(facts["not_native"])}) for facts in answer)
    except (IndexError, ValueError, TypeError):
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise RuntimeLibraryError(
            f"{runtime.library} cannot be loaded: {lines[-1].strip()}; "
            f"`ggufrope runtime build --backend {runtime.backend}` builds for this machine"
        ) from None


class _Ggml:
    """The few functions that are needed, of libggml and libggml-base."""

    def __init__(self, folder: Path) -> None:
        base = ctypes.CDLL(str(folder / library_name("ggml-base")), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(folder / library_name("ggml")), mode=ctypes.RTLD_GLOBAL)
        llama = ctypes.CDLL(str(folder / library_name("llama")))
        self.patched = hasattr(llama, "ggufrope_api_version")
        self.dev_count = declared(ggml, "ggml_backend_dev_count")
        self.dev_get = declared(ggml, "ggml_backend_dev_get")
        self.name = declared(base, "ggml_backend_dev_name")
        self.description = declared(base, "ggml_backend_dev_description")
        self.kind = declared(base, "ggml_backend_dev_type")
        self.memory = declared(base, "ggml_backend_dev_memory")
        self.reg = declared(base, "ggml_backend_dev_backend_reg")
        self.reg_name = declared(base, "ggml_backend_reg_name")
        self.supports = declared(base, "ggml_backend_dev_supports_op")
        self.new_1d = declared(base, "ggml_new_tensor_1d")
        self.new_2d = declared(base, "ggml_new_tensor_2d")
        self.new_3d = declared(base, "ggml_new_tensor_3d")
        self.rope = declared(base, "ggml_rope_ext")
        self.rope_multi = declared(base, "ggml_rope_multi")
        self.context = declared(base, "ggml_init")(InitParams(1 << 20, None, True))

    def rope_op(self, mode: int, kind: int, rows: int) -> Any:
        """A rope node that nobody will compute."""
        multi = mode >= 8
        x = self.new_3d(self.context, kind, _HEAD_DIM, _HEADS, _TOKENS)
        positions = self.new_1d(self.context, _I32, _TOKENS * (4 if multi else 1))
        width = _HEAD_DIM if mode == _MODES["vision"] else _HEAD_DIM // 2
        factors = self.new_2d(self.context, _F32, width, rows)
        n_dims = _HEAD_DIM // 2 if mode == _MODES["vision"] else _HEAD_DIM
        tail = (mode, 0, 10000.0, 1.0, 0.0, 1.0, 32.0, 1.0)
        if multi:
            sections = (ctypes.c_int * 4)(8, 8, 8, 8)
            return self.rope_multi(self.context, x, positions, factors, n_dims, sections, *tail)
        return self.rope(self.context, x, positions, factors, n_dims, *tail)


def _describe(ggml: _Ggml, device: Any) -> dict[str, Any]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.memory(device, ctypes.byref(free), ctypes.byref(total))
    verdict, not_native = _per_head(ggml, device)
    return {
        "name": ggml.name(device).decode(errors="replace"),
        "description": ggml.description(device).decode(errors="replace").strip(),
        "kind": _KINDS[ggml.kind(device)],
        "backend": ggml.reg_name(ggml.reg(device)).decode(errors="replace"),
        "memory_free": free.value,
        "memory_total": total.value,
        "per_head_rope": verdict,
        "not_native": not_native,
    }


def _per_head(ggml: _Ggml, device: Any) -> tuple[str, list[str]]:
    """The verdict, and what is not native where some is."""
    types = {"f32": _F32, "f16": _F16}
    plain = {
        f"{mode} {name}": (number, kind)
        for mode, number in _MODES.items()
        for name, kind in types.items()
        if ggml.supports(device, ggml.rope_op(number, kind, 1))
    }
    if not plain:
        return "none", []
    refused = [name for name, (mode, kind) in plain.items() if not ggml.supports(device, ggml.rope_op(mode, kind, 2))]
    if not ggml.patched:
        return "ignored", []
    return ("cpu", []) if len(refused) == len(plain) else ("native", refused)


def _main(folder: str) -> None:
    try:
        ggml = _Ggml(Path(folder))
    except (OSError, AttributeError) as error:
        raise SystemExit(str(error)) from None
    described = [_describe(ggml, ggml.dev_get(index)) for index in range(ggml.dev_count())]
    print(json.dumps(described))


if __name__ == "__main__":
    _main(sys.argv[1])

"""Find the build that matches these patches, without starting a compiler."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ggufrope.errors import RuntimeLibraryError, UsageError
from ggufrope.runtime.cache import cache_dir
from ggufrope.runtime.pin import Pin, patches_dir, patches_hash
from ggufrope.runtime.toolchain import cpu_identity
from ggufrope.runtime.toolkits import BACKENDS

__all__ = ["MARKER", "Runtime", "default_backend", "library_name", "locate", "outdated"]

#: Written last into a finished build; a directory without it is not a build.
MARKER = "runtime.json"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One finished build.

    Attributes:
        path: Directory of its libraries and programs, all in one place.
        pin: llama.cpp commit that it was made from.
        patches: Hash of the patch series in it (``patches_hash``); empty for the stock build.
        backend: A key of ``toolkits.BACKENDS``.
        programs: Names of the programs in it, without ``.exe``.
        cpu: ``cpu_identity`` of the machine it was compiled for.
        compiler: The compiler's version line.
        source: sha256 of the source distribution.
        toolkit: The GPU toolkit's version; empty without one.
        architectures: GPUs that it was compiled for; empty where that is not chosen when compiling.
        defines: Entries of cmake's cache that the user gave.
    """

    path: Path
    pin: str
    patches: str
    backend: str
    programs: tuple[str, ...]
    cpu: str = ""
    compiler: str = ""
    source: str = ""
    toolkit: str = ""
    architectures: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()

    @property
    def library(self) -> Path:
        """Path of libllama."""
        return self.path / library_name("llama")

    def program(self, name: str) -> Path:
        """Path of one of upstream's programs, such as ``llama-bench``.

        Raises:
            RuntimeLibraryError: This build does not have it.
        """
        path = self.path / (f"{name}.exe" if sys.platform == "win32" else name)
        if not path.is_file():
            raise RuntimeLibraryError(f"{self.path}: this runtime has no {name}; run `ggufrope runtime build`")
        return path

    def write_marker(self) -> None:
        """Declare the build finished."""
        facts = asdict(self) | {"path": "."}
        (self.path / MARKER).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Runtime | None:
        """The finished build in ``path``; None when there is none."""
        try:
            facts = json.loads((path / MARKER).read_text(encoding="utf-8"))
            lists = {name: tuple(facts.get(name, ())) for name in ("programs", "architectures", "defines")}
            return cls(**facts | lists | {"path": path})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def default_backend() -> str:
    """``metal`` on macOS, else ``cpu``."""
    return "metal" if sys.platform == "darwin" else "cpu"


def library_name(base: str) -> str:
    """File name of a shared library on this platform."""
    if sys.platform == "win32":
        return f"{base}.dll"
    return f"lib{base}.dylib" if sys.platform == "darwin" else f"lib{base}.so"


def locate(backend: str | None = None, *, stock: bool = False, programs: tuple[str, ...] = ()) -> Runtime:
    """The finished build of this pin and these patches for this CPU that is to be used.

    The first of these that applies: the directory that ``GGUFROPE_RUNTIME`` names, as it is (not with ``stock``);
    ``backend``; the backend that ``GGUFROPE_BACKEND`` names; of the backends that are built, the first of cuda, hip,
    metal, vulkan, cpu (with ``stock``: the platform's default). Of several builds for a backend the newest is taken,
    and none that was made with entries of cmake's cache of the user's own.

    Args:
        backend: A key of ``toolkits.BACKENDS``.
        stock: The unpatched build, which tests and benchmarks compare with.
        programs: Programs that must be in it.

    Raises:
        RuntimeLibraryError: There is none; the message says how to make it.
        UsageError: ``GGUFROPE_BACKEND`` names no backend.
    """
    override = os.environ.get("GGUFROPE_RUNTIME")
    if override and not stock:
        return _overridden(Path(override).expanduser().absolute())
    backend = backend or _chosen() or (default_backend() if stock else None)
    usable, stale = _usable(stock)
    fitting = [runtime for runtime in usable if set(programs) <= set(runtime.programs)]
    for name in [backend] if backend else BACKENDS:
        for runtime in fitting:
            if runtime.backend == name:
                return runtime
    backend = backend or default_backend()
    options = "".join([" --stock" if stock else "", f" --backend {backend}" if backend != default_backend() else ""])
    there = backend in stale or any(runtime.backend == backend for runtime in usable)
    problem = (
        "none of the built runtimes matches these patches and this CPU" if there else "the runtime is not built yet"
    )
    raise RuntimeLibraryError(f"{problem}; run `ggufrope runtime build{options}` (about five minutes)")


def outdated() -> str | None:
    """What to say when ``locate()`` passes over a build that it would prefer, had that been made of these patches."""
    if os.environ.get("GGUFROPE_RUNTIME") or _chosen():
        return None
    usable, stale = _usable(stock=False)
    ready = {runtime.backend for runtime in usable}
    for name in BACKENDS:
        if name in ready:
            return None
        if name in stale:
            remedy = f"`ggufrope runtime build --backend {name}` renews it"
            return f"the {name} runtime was made for other patches or another CPU and is not used; {remedy}"
    return None


def _chosen() -> str | None:
    name = os.environ.get("GGUFROPE_BACKEND")
    if name and name not in BACKENDS:
        raise UsageError(f"GGUFROPE_BACKEND is {name!r}; choose from {', '.join(BACKENDS)}, or unset it")
    return name or None


def _usable(stock: bool) -> tuple[list[Runtime], set[str]]:
    """Finished builds of this pin and these patches, newest first, and the backends of those of others."""
    source, patches, cpu = Pin.read().sha256, "" if stock else patches_hash(patches_dir()), cpu_identity()
    usable, stale = [], set()
    for runtime in _finished():
        if runtime.defines or bool(runtime.patches) == stock:
            continue
        if (runtime.source, runtime.patches, runtime.cpu) == (source, patches, cpu):
            usable.append(runtime)
        else:
            stale.add(runtime.backend)
    return usable, stale


def _finished() -> list[Runtime]:
    """Finished builds in the cache, newest first."""
    markers = sorted((cache_dir() / "runtime").glob(f"*/{MARKER}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [runtime for marker in markers if (runtime := Runtime.read(marker.parent)) and runtime.library.exists()]


def _overridden(path: Path) -> Runtime:
    known = Runtime.read(path)
    if known is not None:
        return known
    if not (path / library_name("llama")).is_file():
        raise RuntimeLibraryError(
            f"GGUFROPE_RUNTIME is {path}, where there is no {library_name('llama')}; "
            "unset it, or name a build's directory"
        )
    suffix = ".exe" if sys.platform == "win32" else ""
    programs = tuple(
        sorted(item.name.removesuffix(suffix) for item in path.glob(f"llama-*{suffix}") if "." not in item.stem)
    )
    return Runtime(path, pin="", patches="", backend="unknown", programs=programs)

"""Find the build that matches these patches, without starting a compiler."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ggufrope.errors import RuntimeLibraryError
from ggufrope.runtime.cache import cache_dir
from ggufrope.runtime.pin import Pin, patches_dir, patches_hash
from ggufrope.runtime.toolchain import cpu_identity

__all__ = ["MARKER", "Runtime", "default_backend", "library_name", "locate"]

#: Written last into a finished build; a directory without it is not a build.
MARKER = "runtime.json"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One finished build.

    Attributes:
        path: Directory of its libraries and programs, all in one place.
        pin: llama.cpp commit that it was made from.
        patches: Hash of the patch series in it (``patches_hash``); empty for the stock build.
        backend: ``cpu`` or ``metal``.
        programs: Names of the programs in it, without ``.exe``.
        cpu: ``cpu_identity`` of the machine it was compiled for.
        compiler: The compiler's version line.
        source: sha256 of the source distribution.
    """

    path: Path
    pin: str
    patches: str
    backend: str
    programs: tuple[str, ...]
    cpu: str = ""
    compiler: str = ""
    source: str = ""

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
            facts |= {"path": path, "programs": tuple(facts["programs"])}
            return cls(**facts)
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
    """The newest finished build of this pin and these patches for this CPU.

    ``$GGUFROPE_RUNTIME``, a directory with the libraries, is taken instead, as it is, unless ``stock`` is asked for.

    Args:
        backend: ``cpu`` or ``metal``; the platform's default if None.
        stock: The unpatched build, which tests and benchmarks compare with.
        programs: Programs that must be in it.

    Raises:
        RuntimeLibraryError: There is none; the message says how to make it.
    """
    override = os.environ.get("GGUFROPE_RUNTIME")
    if override and not stock:
        return _overridden(Path(override).expanduser().absolute())
    backend = backend or default_backend()
    pin, patches = Pin.read(), "" if stock else patches_hash(patches_dir())
    wanted = (pin.sha256, patches, backend, cpu_identity())
    stale = False
    for runtime in _finished():
        stale = stale or (runtime.backend == backend and bool(runtime.patches) != stock)
        if (runtime.source, runtime.patches, runtime.backend, runtime.cpu) == wanted and set(programs) <= set(
            runtime.programs
        ):
            return runtime
    options = "".join([" --stock" if stock else "", f" --backend {backend}" if backend != default_backend() else ""])
    found = "none of the built runtimes matches these patches and this CPU" if stale else "the runtime is not built yet"
    raise RuntimeLibraryError(f"{found}; run `ggufrope runtime build{options}` (about five minutes)")


def _finished() -> list[Runtime]:
    """Finished builds in the cache, newest first."""
    markers = sorted((cache_dir() / "runtime").glob(f"*/{MARKER}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [runtime for marker in markers if (runtime := Runtime.read(marker.parent)) and runtime.library.exists()]


def _overridden(path: Path) -> Runtime:
    known = Runtime.read(path)
    if known is not None:
        return known
    if not (path / library_name("llama")).is_file():
        raise RuntimeLibraryError(f"GGUFROPE_RUNTIME is {path}, where there is no {library_name('llama')}")
    suffix = ".exe" if sys.platform == "win32" else ""
    programs = tuple(
        sorted(item.name.removesuffix(suffix) for item in path.glob(f"llama-*{suffix}") if "." not in item.stem)
    )
    return Runtime(path, pin="", patches="", backend="unknown", programs=programs)

"""Compile the pinned llama.cpp, patched or stock, into the cache; nothing to do when that build exists.

cmake and git are driven from here, without a shell, so that macOS and Windows take the same path. Nothing is fetched
besides the source itself: no web UI, no TLS library, no FetchContent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ggufrope.errors import BuildError, NotHonouredError, OutputError, UsageError
from ggufrope.runtime.cache import cache_dir, locked, remove_tree, replace_dir
from ggufrope.runtime.cores import cores_of_process
from ggufrope.runtime.fetch import source_tree
from ggufrope.runtime.locate import Runtime, default_backend
from ggufrope.runtime.patch import apply_series
from ggufrope.runtime.pin import Pin, patches_dir, patches_hash, read_series
from ggufrope.runtime.progress import Progress, compile_errors, run_logged
from ggufrope.runtime.toolchain import Tools, compiler_missing, cpu_identity, find_tools
from ggufrope.runtime.toolkits import BACKENDS, Toolkit, find_toolkit
from ggufrope.runtime.worktree import copy_touched, refresh, touched_files

__all__ = ["BuildSpec", "build"]

_PROGRAMS = (
    "llama-bench",
    "llama-cli",
    "llama-completion",
    "llama-gguf-split",
    "llama-perplexity",
    "llama-quantize",
    "llama-server",
    "llama-tokenize",
)
#: What benchmarks compare with. Tests need the library alone, which halves the time (measured: 75 steps of 147).
_STOCK_PROGRAMS = ("llama-bench", "llama-completion", "llama-quantize")
_TEST_PROGRAMS = ("test-backend-ops", "test-llama-archs")

# DT_RPATH instead of DT_RUNPATH: someone's LD_LIBRARY_PATH with another llama.cpp must not win over the patched one
_OLD_TAGS = "-Wl,--disable-new-dtags"
_LINKING = (
    {"CMAKE_EXE_LINKER_FLAGS_INIT": _OLD_TAGS, "CMAKE_SHARED_LINKER_FLAGS_INIT": _OLD_TAGS}
    if sys.platform == "linux"
    else {}
)
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "@loader_path" if sys.platform == "darwin" else "$ORIGIN",
    **_LINKING,
    "FETCHCONTENT_FULLY_DISCONNECTED": "ON",
    "GGML_NATIVE": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
}
#: Variables that cmake reads when it first configures a directory.
_ENVIRONMENT = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS")


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What to build.

    Attributes:
        backend: A key of ``toolkits.BACKENDS``.
        stock: The pin without our patches; libraries alone.
        with_programs: With ``stock``, also the programs that benchmarks compare with.
        with_tests: Also upstream's test-backend-ops and test-llama-archs.
        architectures: GPUs to compile for (cuda and hip); those that are here if empty.
        defines: Further entries of cmake's cache, ``NAME=VALUE``, which win over ours. Such a build is never found by
            ``locate``: only ``GGUFROPE_RUNTIME`` leads to it.
        only: Programs to build instead of the usual ones; ``with_tests`` adds to them.

    Raises:
        NotHonouredError: There is no such backend, or not on this platform.
        UsageError: An entry of ``defines`` is not ``NAME=VALUE``.
    """

    backend: str = field(default_factory=default_backend)
    stock: bool = False
    with_programs: bool = False
    with_tests: bool = False
    architectures: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise NotHonouredError(f"no backend {self.backend!r}; choose from {', '.join(BACKENDS)}")
        if self.backend == "metal" and sys.platform != "darwin":
            raise NotHonouredError("backend metal needs macOS; --backend cpu works here")
        for define in self.defines:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=[^\n]*", define):
                raise UsageError(f"-D {define}: NAME=VALUE is needed, as in -D GGML_CUDA_FA=OFF")

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the programs in the build."""
        stock = _STOCK_PROGRAMS if self.with_programs else ()
        remote = ("ggml-rpc-server",) if "GGML_RPC=ON" in self.defines else ()
        usual = (stock if self.stock else _PROGRAMS) if self.only is None else self.only
        return usual + (_TEST_PROGRAMS if self.with_tests else ()) + remote

    def options(self, toolkit: Toolkit) -> dict[str, str]:
        """Entries of cmake's cache."""
        found_at = ";".join([_OPTIONS["CMAKE_INSTALL_RPATH"], *toolkit.library_dirs])
        own = {"CMAKE_INSTALL_RPATH": found_at, "LLAMA_BUILD_TESTS": "ON" if self.with_tests else "OFF"}
        return _OPTIONS | dict(toolkit.options) | own | dict(define.split("=", 1) for define in self.defines)


def build(
    spec: BuildSpec | None = None,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Runtime:
    """Return the finished build for ``spec``, making it first if need be. An interrupted build goes on where it was.

    Args:
        spec: What to build; the platform's default if None.
        jobs: Compilers at once; all processors of this process if None.
        progress: Told about each step.
        notify: Told what the user should know about the build, such as GPUs that were chosen for want of one.

    Raises:
        BuildError: A tool is missing, or fetching, patching, configuring or compiling failed.
        OutputError: The cache cannot be written.
    """
    spec = spec or BuildSpec()
    patches = patches_dir()
    pin, tools = Pin.read(patches), find_tools()
    toolkit = find_toolkit(spec.backend, spec.architectures)
    for note in toolkit.notes:
        (notify or (lambda _note: None))(note)
    series_hash = "" if spec.stock else patches_hash(patches)
    shared = [pin.sha256, spec.backend, tools.compiler, cpu_identity(), *_settings()]
    shared += [*toolkit.identity, *spec.defines]
    # a tree for each: going to and fro would compile everything anew, since ggml.h differs
    work = cache_dir() / "work" / _key([*shared, "stock" if spec.stock else "patched"])
    final = cache_dir() / "runtime" / _key([*shared, series_hash, *spec.programs])
    runtime = Runtime(
        final,
        pin.upstream,
        series_hash,
        spec.backend,
        spec.programs,
        cpu_identity(),
        tools.compiler,
        pin.sha256,
        toolkit.version,
        toolkit.architectures,
        spec.defines,
    )
    if done := _complete(final):
        return done

    say = progress or (lambda _done, _total, _text: None)
    environment = _build_environment(work) | dict(toolkit.environment)
    with locked(work.with_name(f"{work.name}.lock"), lambda: say(0, 0, "waiting for another build to finish")):
        if done := _complete(final):
            return done
        try:
            say(0, 0, f"fetching llama.cpp {pin.upstream} ({pin.package} {pin.version})")
            pristine = source_tree(pin)
            say(0, 0, "stock sources" if spec.stock else f"applying {len(read_series(patches))} patches")
            _prepare(work / "source", pristine, None if spec.stock else patches)
            _configure(work, spec.options(toolkit) | {"LLAMA_BUILD_COMMIT": pin.upstream}, tools, environment, say)
            _compile(work, spec, tools, jobs or cores_of_process(), environment, say)
            return _install(work, runtime)
        except OSError as error:
            where, reason = error.filename or work, error.strerror or error
            raise OutputError(f"{where}: {reason}; set GGUFROPE_CACHE to use another disk") from error


def _complete(path: Path) -> Runtime | None:
    done = Runtime.read(path)
    return done if done and done.library.exists() else None


def _prepare(tree: Path, pristine: Path, patches: Path | None) -> None:
    """Bring ``tree`` to the patched state, or to the stock state if ``patches`` is None."""
    series = read_series(patches) if patches else ()
    with tempfile.TemporaryDirectory(prefix="ggufrope-") as temporary:
        overlay = Path(temporary) / "tree"
        copy_touched(pristine, series, overlay)
        if patches:
            apply_series(patches, overlay)
        refresh(tree, pristine, overlay, touched_files(series))


def _configure(
    work: Path, options: dict[str, str], tools: Tools, environment: dict[str, str], progress: Progress
) -> None:
    """Run cmake on ``work/source`` for ``work/build``."""
    build_dir, log = work / "build", work / "build.log"
    log.write_text("", encoding="utf-8")
    generator = [] if tools.ninja is None else ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools.ninja}"]
    command = [str(tools.cmake), "-S", str(work / "source"), "-B", str(build_dir), *generator]
    progress(0, 0, "configuring")
    command += [f"-D{name}={value}" for name, value in options.items()]
    if run_logged(command, log, progress, environment) == 0:
        return
    remove_tree(build_dir)  # cmake remembers a failed compiler check
    if "No CMAKE_CXX_COMPILER could be found" in log.read_text(encoding="utf-8", errors="replace"):
        raise compiler_missing()
    raise BuildError(f"configuring llama.cpp failed: {compile_errors(log)}; log: {log}")


def _compile(
    work: Path, spec: BuildSpec, tools: Tools, jobs: int, environment: dict[str, str], progress: Progress
) -> None:
    """Compile into ``work/build/bin``."""
    build_dir, log = work / "build", work / "build.log"
    remove_tree(build_dir / "bin")  # linking again is quick, and nothing of another state stays behind
    command = [str(tools.cmake), "--build", str(build_dir), "--config", "Release", "-j", str(jobs)]
    command += ["--target", "llama", *spec.programs]
    if run_logged(command, log, progress, environment) != 0:
        raise BuildError(f"compiling llama.cpp failed: {compile_errors(log)}; log: {log}")


def _install(work: Path, runtime: Runtime) -> Runtime:
    """Copy what was linked to its final place: marker last, then one rename."""
    linked = work / "build" / "bin"
    if (linked / "Release").is_dir():  # Visual Studio and Xcode
        linked = linked / "Release"
    final = runtime.path
    final.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}-"))
    try:
        shutil.copytree(linked, new, symlinks=True, dirs_exist_ok=True)
        replace(runtime, path=new).write_marker()
        new.chmod(0o755)
        replace_dir(new, final)
    finally:
        remove_tree(new)
    return runtime


def _settings() -> list[str]:
    return [json.dumps(_OPTIONS, sort_keys=True), *(f"{name}={os.environ.get(name, '')}" for name in _ENVIRONMENT)]


def _key(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build_environment(work: Path) -> dict[str, str]:
    # The pin's cmake asks git for a commit: it must not find a repository that happens to surround the cache.
    # llama.cpp uses ccache where there is one; relative paths let all builds share its results.
    return os.environ | {
        "NINJA_STATUS": "[%f/%t] ",
        "GIT_CEILING_DIRECTORIES": str(work.resolve()),
        "CCACHE_BASEDIR": os.environ.get("CCACHE_BASEDIR", str(work)),
        "CCACHE_NOHASHDIR": "1",
    }

"""A build that cannot be: one line that says what to install or what broke. Nothing here compiles llama.cpp."""

from __future__ import annotations

import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_llama import make_patches, make_pristine

from ggufrope.errors import BuildError, NotHonouredError, OutputError, UsageError
from ggufrope.runtime import build as build_module
from ggufrope.runtime import git, patch, toolchain
from ggufrope.runtime.build import BuildSpec, build
from ggufrope.runtime.locate import Runtime, library_name
from ggufrope.runtime.toolkits import Toolkit

FAKE_CMAKE = """#!{python}
import pathlib, sys
a = sys.argv[1:]
if "-S" in a:
    print({configure!r})
    sys.exit({configure_code})
print("[1/2] Building CXX object main.cpp.o")
print({compile!r})
if {compile_code} == 0:
    bin = pathlib.Path(a[a.index("--build") + 1]) / "bin"
    bin.mkdir(parents=True)
    (bin / {library!r}).touch()
sys.exit({compile_code})
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache, a pinned tree and an empty series of its own, so that ``build`` runs without a network."""
    patches = make_patches(tmp_path / "patches")
    monkeypatch.setenv("GGUFROPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build_module, "patches_dir", lambda: patches)
    monkeypatch.setattr(build_module, "source_tree", lambda _pin: make_pristine(tmp_path / "pristine"))
    return tmp_path


def fake_cmake(
    world: Path, monkeypatch: pytest.MonkeyPatch, *, configure: int = 0, compiled: int = 0, say: str = ""
) -> None:
    path = world / "cmake"
    path.write_text(
        FAKE_CMAKE.format(
            python=sys.executable,
            configure=say if configure else "ok",
            configure_code=configure,
            compile=say if compiled else "ok",
            compile_code=compiled,
            library=library_name("llama"),
        )
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(build_module, "find_tools", lambda: toolchain.Tools(path, None, "a compiler"))


def test_missing_compiler_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError) as caught:
        toolchain.find_tools()
    assert toolchain.COMPILER_REMEDY[sys.platform] in str(caught.value)
    assert "apt-get install g++" in toolchain.COMPILER_REMEDY["linux"]


def test_cxx_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(BuildError, match="CXX is no-such-compiler"):
        toolchain.find_tools()


def test_missing_git_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="apt-get install git"):
        git.run_git(tmp_path, "status")


def test_missing_cmake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cmake", None)
    with pytest.raises(BuildError, match="pip install cmake"):
        toolchain._packaged("cmake", "CMAKE_BIN_DIR")


def test_unknown_backend() -> None:
    with pytest.raises(NotHonouredError, match="no backend 'tpu'; choose from cuda, hip, metal, vulkan, cpu"):
        BuildSpec("tpu")


@pytest.mark.parametrize("define", ["GGML_CUDA_FA", "=ON", "A B=1"])
def test_a_define_is_name_and_value(define: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE is needed"):
        BuildSpec("cpu", defines=(define,))


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for cmake is a script with #!")
class TestStages:
    def test_builds_once(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cmake(world, monkeypatch)
        steps: list[tuple[int, int, str]] = []
        runtime = build(BuildSpec("cpu"), progress=lambda *step: steps.append(step))
        assert (1, 2, "Building CXX object main.cpp.o") in steps
        assert runtime.library.exists()
        assert Runtime.read(runtime.path) == runtime
        fake_cmake(world, monkeypatch, configure=1)
        assert build(BuildSpec("cpu")) == runtime

    def test_patches_and_stock_have_their_own(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cmake(world, monkeypatch)
        first, stock = build(BuildSpec("cpu")), build(BuildSpec("cpu", stock=True))
        (world / "patches" / "src" / "ours.cpp").write_text("int changed;\n")
        assert len({first.path, stock.path, build(BuildSpec("cpu")).path}) == 3
        assert stock.patches == ""

    def test_toolkits_and_defines_have_their_own(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cmake(world, monkeypatch)
        found = Toolkit("CUDA 13.0", ("90-real",), {"GGML_CUDA": "ON"}, library_dirs=("/cublas",), notes=("told",))
        monkeypatch.setattr(build_module, "find_toolkit", lambda _backend, _archs: found)
        notes: list[str] = []
        builds = [build(BuildSpec("cuda"), notify=notes.append)]
        assert notes == ["told"]
        for other in (replace(found, version="CUDA 13.1"), replace(found, architectures=("86-real",))):
            monkeypatch.setattr(build_module, "find_toolkit", lambda _backend, _archs, other=other: other)
            builds.append(build(BuildSpec("cuda")))
        builds.append(build(BuildSpec("cuda", defines=("GGML_CUDA_FA=OFF",))))
        assert len({runtime.path for runtime in builds}) == 4
        assert [Runtime.read(runtime.path) for runtime in builds] == builds
        assert (builds[0].toolkit, builds[0].architectures) == ("CUDA 13.0", ("90-real",))
        options = BuildSpec("cuda", defines=("GGML_CUDA_FA=OFF", "GGML_CUDA=OFF")).options(found)
        assert options["CMAKE_INSTALL_RPATH"].endswith(";/cublas")
        assert (options["GGML_CUDA_FA"], options["GGML_CUDA"]) == ("OFF", "OFF")

    def test_failed_compile_says_where(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cmake(world, monkeypatch, compiled=1, say="main.cpp:3:1: error: expected ';'")
        with pytest.raises(BuildError, match=r"main\.cpp:3:1: error: expected.*log: .*build\.log"):
            build(BuildSpec("cpu"))
        assert not list((world / "cache" / "runtime").glob("*"))

    def test_failed_configure(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cmake(world, monkeypatch, configure=1, say="CMake Error: No CMAKE_CXX_COMPILER could be found.")
        with pytest.raises(BuildError, match="no C\\+\\+ compiler"):
            build(BuildSpec("cpu"))
        fake_cmake(world, monkeypatch, configure=1, say="CMake Error at x: broken")
        with pytest.raises(BuildError, match="CMake Error at x: broken"):
            build(BuildSpec("cpu"))

    def test_broken_patch(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cmake(world, monkeypatch)
        (world / "patches" / "bad.patch").write_text("diff --git a/src/main.cpp b/src/main.cpp\n@@ -1 +1 @@\n-x\n+y\n")
        (world / "patches" / "series").write_text("bad.patch\n")
        with pytest.raises(BuildError, match=r"bad\.patch does not apply"):
            build(BuildSpec("cpu"))

    def test_full_disk(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_cmake(world, monkeypatch)

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device", "/somewhere")

        monkeypatch.setattr(shutil, "copyfile", full)
        monkeypatch.setattr(patch.shutil, "copyfile", full)
        with pytest.raises(OutputError, match="No space left on device; set GGUFROPE_CACHE"):
            build(BuildSpec("cpu"))

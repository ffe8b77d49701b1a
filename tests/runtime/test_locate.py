from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from fake_llama import make_patches

from ggufrope.errors import RuntimeLibraryError, UsageError
from ggufrope.runtime import locate as module
from ggufrope.runtime.locate import Runtime, default_backend, library_name, locate, outdated
from ggufrope.runtime.pin import Pin, patches_hash
from ggufrope.runtime.toolchain import cpu_identity


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    patches = make_patches(tmp_path / "patches")
    monkeypatch.setattr(module, "patches_dir", lambda: patches)
    monkeypatch.setattr(Pin, "read", classmethod(lambda _cls, _p=None: Pin("thing", "1", "0" * 64, "abc", "v")))
    monkeypatch.setenv("GGUFROPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GGUFROPE_RUNTIME", raising=False)
    monkeypatch.delenv("GGUFROPE_BACKEND", raising=False)
    return tmp_path


def finished(root: Path, name: str, **changes: object) -> Runtime:
    """A finished build that matches, but for ``changes``."""
    path = root / "cache" / "runtime" / name
    path.mkdir(parents=True)
    (path / library_name("llama")).touch()
    runtime = Runtime(
        path,
        "abc",
        patches_hash(root / "patches"),
        default_backend(),
        ("llama-bench",),
        cpu_identity(),
        "g++",
        "0" * 64,
    )
    runtime = replace(runtime, **changes)
    runtime.write_marker()
    return runtime


def test_nothing_built(cache: Path) -> None:
    with pytest.raises(RuntimeLibraryError, match="not built yet; run `ggufrope runtime build`"):
        locate()
    with pytest.raises(RuntimeLibraryError, match="runtime build --stock"):
        locate(stock=True)


def test_finds_the_newest_match(cache: Path) -> None:
    old, new = finished(cache, "a"), finished(cache, "b")
    os.utime(old.path / module.MARKER, (1, 1))
    assert locate() == new
    assert locate(programs=("llama-bench",)) == new
    assert new.library == new.path / library_name("llama")


@pytest.mark.parametrize(
    "change", [{"patches": "other"}, {"cpu": "other"}, {"source": "1" * 64}, {"programs": ()}, {"backend": "other"}]
)
def test_what_does_not_match_is_not_taken(change: dict[str, object], cache: Path) -> None:
    finished(cache, "a", **change)
    with pytest.raises(RuntimeLibraryError, match="runtime build"):
        locate(programs=("llama-bench",))


def test_changed_patches_are_said_to_be_the_reason(cache: Path) -> None:
    finished(cache, "a")
    (cache / "patches" / "src" / "ours.cpp").write_text("int other;\n")
    with pytest.raises(RuntimeLibraryError, match="none of the built runtimes matches"):
        locate()


def test_stock_and_patched_are_never_confused(cache: Path) -> None:
    patched, stock = finished(cache, "a"), finished(cache, "b", patches="")
    assert locate() == patched
    assert locate(stock=True) == stock


@pytest.mark.parametrize("damage", ["library", "marker", "half"])
def test_unfinished_builds_do_not_count(damage: str, cache: Path) -> None:
    runtime = finished(cache, "a")
    marker = runtime.path / module.MARKER
    if damage == "library":
        runtime.library.unlink()
    elif damage == "marker":
        marker.unlink()
    else:
        marker.write_text(marker.read_text()[:40])
    with pytest.raises(RuntimeLibraryError):
        locate()


def test_override(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(cache, "a")
    mine = cache / "mine"
    monkeypatch.setenv("GGUFROPE_RUNTIME", str(mine))
    with pytest.raises(RuntimeLibraryError, match=f"where there is no {library_name('llama')}"):
        locate()
    mine.mkdir()
    (mine / library_name("llama")).touch()
    assert locate().path == mine


def test_missing_program(cache: Path) -> None:
    with pytest.raises(RuntimeLibraryError, match="has no llama-server"):
        finished(cache, "a").program("llama-server")


class TestWhichBackend:
    """The flag, then ``GGUFROPE_BACKEND``, then the first that is built of cuda, hip, metal, vulkan, cpu."""

    def test_a_gpu_before_the_cpu_however_old(self, cache: Path) -> None:
        order = [finished(cache, name, backend=name) for name in ("cuda", "hip", "metal", "vulkan", "cpu")]
        for i, runtime in enumerate(order):
            os.utime(runtime.path / module.MARKER, (i, i))
        for runtime in order:
            assert locate() == runtime
            runtime.library.unlink()

    def test_flag_then_variable(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        builds = {name: finished(cache, name, backend=name) for name in ("cuda", "vulkan", "cpu")}
        monkeypatch.setenv("GGUFROPE_BACKEND", "vulkan")
        assert locate() == builds["vulkan"]
        assert locate("cpu") == builds["cpu"]
        monkeypatch.setenv("GGUFROPE_BACKEND", "hip")
        with pytest.raises(RuntimeLibraryError, match="not built yet; run `ggufrope runtime build --backend hip`"):
            locate()
        monkeypatch.setenv("GGUFROPE_BACKEND", "gpu")
        with pytest.raises(UsageError, match="GGUFROPE_BACKEND is 'gpu'; choose from cuda"):
            locate()

    def test_stock_is_the_platforms_default(self, cache: Path) -> None:
        finished(cache, "a", backend="cuda", patches="")
        default = finished(cache, "b", patches="")
        assert locate(stock=True) == default

    def test_builds_with_defines_are_not_found(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        special = finished(cache, "a", defines=("GGML_RPC=ON",))
        with pytest.raises(RuntimeLibraryError):
            locate()
        monkeypatch.setenv("GGUFROPE_RUNTIME", str(special.path))
        assert locate() == special

    def test_a_better_build_of_other_patches_is_named(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        finished(cache, "a")
        assert outdated() is None
        finished(cache, "b", backend="cuda", patches="other")
        assert locate().backend == default_backend()
        assert "runtime build --backend cuda` renews it" in (outdated() or "")
        finished(cache, "c", backend="cuda")
        assert outdated() is None
        (cache / "cache/runtime/c" / library_name("llama")).unlink()
        monkeypatch.setenv("GGUFROPE_BACKEND", "cpu")
        assert outdated() is None

"""What ``scripts/gpu-check`` carries to another machine, and what it compiles twice there."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from bench_runtime.model import Shape
from gpu_check.measure import Plan, Row, check_rows
from gpu_check.pack import code, overlay, pack, unpack
from gpu_check.steps import Builds, Clock, StepError

from ggufrope.errors import BuildError, InputError
from ggufrope.runtime.toolkits import Toolkit


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    try:
        size = pack(folder / "pack")
    except BuildError as error:
        pytest.skip(str(error))  # no source, no network
    assert size < 64 << 20
    unpack(folder / "pack", folder)
    return folder


def test_half_an_hour_of_cuda_is_compiled_once(unpacked: Path) -> None:
    """Every file of ggml-cuda includes ggml's headers: of them the series may change comments alone."""
    changed = overlay(unpacked / "patched", unpacked / "source")
    assert "ggml/src/ggml-cuda/rope.cu" in changed
    assert (unpacked / "source/src/ggufrope/ggufrope.h").is_file()
    everywhere = [name for name in changed if name.startswith("ggml/") and name.endswith((".h", ".cuh"))]
    assert not everywhere
    assert overlay(unpacked / "patched", unpacked / "source") == []


def test_a_header_keeps_its_age_when_only_comments_differ(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, note, number in ((old, "// a", 1), (new, '// a\n    // b /* "c" */', 2)):
        folder.mkdir()
        (folder / "same.h").write_text(f"{note}\nint x;\n")
        (folder / "other.h").write_text(f"int x = {number};\n")
    os.utime(old / "same.h", (1, 1))
    assert overlay(new, old) == ["other.h"]
    assert (old / "same.h").read_text() == (new / "same.h").read_text()
    assert (old / "same.h").stat().st_mtime == 1


def test_code() -> None:
    assert code('f("//  a") /* b */ // c\n  ;') == 'f("//  a") ;'


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no")
    with pytest.raises(InputError, match="make it with scripts/gpu-check --pack"):
        unpack(tmp_path / "x", tmp_path / "y")


def test_a_step_has_a_limit(tmp_path: Path) -> None:
    clock = Clock(60)
    assert clock.run(["echo", "said"], tmp_path / "log") == "said\n"
    with pytest.raises(StepError, match="sleep: not done after 2 s"):
        clock.run(["sleep", "60"], tmp_path / "log", 2)
    with pytest.raises(StepError, match="false: exit status 1"):
        clock.run(["false"], tmp_path / "log")
    with pytest.raises(StepError, match="no time left"):
        Clock(0).run(["true"], tmp_path / "log")


def test_the_self_test_of_devices_is_in_the_table(runtime_dir: Path) -> None:
    plan = Plan("CPU", 0, Shape(2, 4, 256, 3, 512, 1024, 1024), (32,), 16, 2)
    builds, tables = Builds(runtime_dir, runtime_dir, (0, 0), (), Toolkit(), "cpu"), list[str]()
    rows = list(check_rows(plan, builds, Clock(60), tables))
    assert [(row.what, row.failed) for row in rows] == [("`runtime check`, CPU", False)]
    assert re.fullmatch(r"(\d+) of \1 cases passed", rows[0].patched)
    assert "| rope_back | imrope | f16 | yarn |" in tables[-1]
    *_, absent = check_rows(replace(plan, device="CUDA0"), builds, Clock(60), tables)
    assert absent.failed
    assert absent.patched == "**failed**: there is no CUDA0"


def test_row() -> None:
    assert str(Row("what", "1", "2", "3")) == "| what | 1 | 2 | 3 |"

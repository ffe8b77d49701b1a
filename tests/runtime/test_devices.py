from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ggufrope.cli import cli
from ggufrope.errors import RuntimeLibraryError
from ggufrope.runtime.devices import devices
from ggufrope.runtime.locate import Runtime, library_name


def test_the_cpu_has_per_head_rope(runtime_dir: Path) -> None:
    runtime = Runtime.read(runtime_dir)
    assert runtime
    cpu = devices(runtime)[-1]
    assert (cpu.kind, cpu.backend, cpu.per_head_rope, cpu.not_native) == ("cpu", "CPU", "native", ())
    assert 0 < cpu.memory_free <= cpu.memory_total
    assert "per-head RoPE: native" in str(cpu)


def test_an_unpatched_build_ignores_rows(stock_dir: Path) -> None:
    runtime = Runtime.read(stock_dir)
    assert runtime
    assert devices(runtime)[-1].per_head_rope == "ignored"


def test_libraries_that_cannot_be_loaded(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, "", "", "cuda", ())
    (tmp_path / library_name("ggml-base")).write_text("not a library")
    with pytest.raises(RuntimeLibraryError, match=r"cannot be loaded: .*runtime build --backend cuda"):
        devices(runtime)


def test_info(runtime_dir: Path) -> None:
    plain = CliRunner().invoke(cli, ["runtime", "info"], catch_exceptions=False)
    assert "per-head RoPE: native" in plain.output
    facts = json.loads(CliRunner().invoke(cli, ["runtime", "info", "--json"], catch_exceptions=False).output)
    assert facts["devices"][-1]["per_head_rope"] == "native"
    assert (facts["path"], facts["architectures"]) == (str(runtime_dir), [])


def test_words() -> None:
    from ggufrope.runtime.devices import Device

    card = Device("CUDA0", "A chip", "gpu", "CUDA", 1 << 30, 2 << 30, "native", ("vision f16",))
    assert str(card) == (
        "CUDA0 (CUDA, gpu): A chip, 1.0 of 2.0 GiB free; per-head RoPE: native, but on the CPU: vision f16"
    )
    assert str(replace(card, per_head_rope="cpu", not_native=())).endswith("per-head RoPE: on the CPU")

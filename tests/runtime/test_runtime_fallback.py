"""A backend without per-head kernels, really executed: ggml's RPC backend, whose server is another process.

It answers yes to every op, so only the patches' guard keeps a rope of several rows from it. The server here runs stock
llama.cpp, whose kernel takes the first row for all heads: a rope that got through shows in the logits. Weights and K
cache of all layers are on the server; the ropes of Q and K that have a table run here, on the CPU, and no others do.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from llama_process import Outcome, run_job
from preloaded import compile_preload
from rpc_backend import compile_rpc, serving
from test_runtime_head_factors import RATIOS, with_factors
from tiny_transformer import ARCHITECTURES, TinyModel

from ggufrope.errors import BuildError

F32, F16, Q8_0 = 0, 1, 8
TOKENS = np.random.default_rng(1).integers(0, 64, 120).tolist()


@dataclass(frozen=True)
class Remote:
    """The patched build here, and a server of the stock build."""

    patched: Path
    rpc: Path
    endpoint: str

    def run(self, path: Path, steps: list, **context: int) -> Outcome:
        outcome = run_job(self.patched, path, steps, rpc=(self.rpc, self.endpoint), **context)
        assert not outcome.error, outcome.last_error or outcome.log[-2000:]
        assert "offloaded 4/4 layers to GPU" in outcome.log
        assert "RPC0" in outcome.log
        return outcome

    def run_here(self, path: Path, steps: list, **context: int) -> Outcome:
        """The same without the server."""
        outcome = run_job(self.patched, path, steps, **context)
        assert not outcome.error, outcome.last_error or outcome.log[-2000:]
        assert "RPC" not in outcome.log
        return outcome


@pytest.fixture(scope="module")
def remote(runtime_dir: Path, stock_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    if sys.platform != "linux" or shutil.which("c++") is None:
        pytest.skip("the RPC backend is compiled for Linux here, with c++")
    folder = tmp_path_factory.mktemp("rpc")
    try:
        rpc = compile_rpc(runtime_dir, folder)
    except BuildError as error:
        pytest.skip(str(error))  # no source, no network
    with serving(stock_dir, rpc, folder / "server.log") as endpoint:
        yield Remote(runtime_dir, rpc, endpoint)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits(remote: Remote, path: Path, arch: str) -> None:
    """A prompt and single tokens after it, against float64 and against the CPU alone."""
    model = TinyModel(arch)
    path.write_bytes(model.file(with_factors(RATIOS)))
    steps = [["eval", TOKENS[:90], 0, 0], *(["eval", [TOKENS[i]], i, 0] for i in range(90, 100))]
    found = np.concatenate(remote.run(path, steps).arrays)
    np.testing.assert_allclose(found, model.logits(TOKENS[:100], RATIOS), atol=1e-4)
    np.testing.assert_allclose(found, np.concatenate(remote.run_here(path, steps).arrays), atol=2e-5)


@pytest.mark.parametrize("type_k", [F32, F16, Q8_0])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_shift(remote: Remote, path: Path, arch: str, type_k: int) -> None:
    """Cached keys on the server are shifted by a rope that runs here: not in place."""
    path.write_bytes(TinyModel(arch, head_dim=64).file(with_factors(RATIOS)))
    steps = [["eval", TOKENS[:100], 70, 0], ["shift", 0, 0, -1, -70], ["eval", TOKENS[100:], 100, 0]]
    shifted = remote.run(path, steps, type_k=type_k).arrays[1]
    np.testing.assert_allclose(shifted, remote.run_here(path, steps, type_k=type_k).arrays[1], atol=2e-4)


def test_only_ropes_with_a_table_leave_the_server(remote: Remote, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_SCHED_DEBUG", "2")
    path.write_bytes(TinyModel("llama").file())
    plain = remote.run(path, [["eval", TOKENS, 0, 0]])
    assert splits(plain) == ["CPU", "RPC"]  # the embedding here, all the rest there
    assert ropes(plain) == {f"{name}cur-{i}": "RPC" for i in range(3) for name in "QK"}

    path.write_bytes(TinyModel("llama").file(with_factors(RATIOS)))
    ours = remote.run(path, [["eval", TOKENS, 0, 0]])
    assert splits(ours) == ["CPU", "RPC"] * 5
    # the ratios of the first layer are 1: no table
    assert ropes(ours) == {f"{name}cur-{i}": "CPU" if i else "RPC" for i in range(3) for name in "QK"}


def test_without_guard_and_self_test_the_logits_would_be_wrong(
    remote: Remote, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that the tests above, and those of the self-test, can tell."""
    monkeypatch.setenv("LD_PRELOAD", str(compile_preload("guard_absent.cpp", tmp_path)))
    monkeypatch.setenv("GGML_SCHED_DEBUG", "2")
    model = TinyModel("llama")
    path.write_bytes(model.file(with_factors(RATIOS)))
    outcome = remote.run(path, [["eval", TOKENS, 0, 0]])
    assert set(ropes(outcome).values()) == {"RPC"}
    assert np.abs(outcome.arrays[0] - model.logits(TOKENS, RATIOS)).max() > 1


def splits(outcome: Outcome) -> list[str]:
    """The devices that the last graph goes through, as the scheduler reports them for GGML_SCHED_DEBUG."""
    return [device for device, _ in _last_graph(outcome)]


def ropes(outcome: Outcome) -> dict[str, str]:
    """The device of each rope of the last graph."""
    return {name: device for device, text in _last_graph(outcome) for name in re.findall(r"\( +ROPE\): +(\S+)", text)}


def _last_graph(outcome: Outcome) -> list[tuple[str, str]]:
    graph = outcome.log[outcome.log.rindex("## SPLIT #0:") :]
    parts = graph.split("## SPLIT #")[1:]
    return [("RPC" if "RPC0" in part.split("#")[0] else "CPU", part) for part in parts]

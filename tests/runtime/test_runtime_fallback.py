"""A backend without per-head kernels, really executed: ggml's RPC backend, whose server is another process.

It answers yes to every op, so only the patches' guard keeps a rope of several rows from it. The server here runs stock
llama.cpp, whose kernel takes the first row for all heads: a rope that got through shows in the logits. Weights and K
cache of all layers are on the server; the ropes of Q and K that have a table run here, on the CPU, and no others do.
That is said, with what it costs, or refused if asked for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from llama_process import Outcome, run_job
from lora_adapter import Adapter
from preloaded import compile_preload
from rpc_backend import compile_rpc, serving
from test_runtime_head_factors import RATIOS, with_factors
from tiny_transformer import ARCHITECTURES, TinyModel

import ggufrope
from ggufrope.errors import BuildError
from ggufrope.runtime.locate import library_name

F32, F16, Q8_0 = 0, 1, 8
TOKENS = np.random.default_rng(1).integers(0, 64, 120).tolist()


@dataclass(frozen=True)
class Remote:
    """The patched build here, and a server of the stock build."""

    patched: Path
    rpc: Path
    endpoint: str

    def environment(self) -> dict[str, str]:
        """For a program that is to have the server among its devices; see ``rpc_at_start.cpp``."""
        preloaded = self.rpc.with_name("rpc_at_start.so")
        if not preloaded.exists():
            ggml = self.patched / library_name("ggml")
            compile_preload("rpc_at_start.cpp", self.rpc.parent, self.rpc, ggml)
        return os.environ | {"LD_PRELOAD": str(preloaded), "RPC_AT_START": self.endpoint}

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


#: Q and K of two layers with a table, 4 + 2 heads of 32 floats.
SAID = (
    "4 ropes of 2 of 3 layers run on CPU, as RPC0 does not run them by rows of factors: 1.5 KiB for each token go "
    "there and back over the network, a round trip for each of these layers and batch"
)


def test_it_is_said_once_with_what_it_costs(remote: Remote, path: Path) -> None:
    """An adapter has the context reserve its graphs anew: that is no reason to repeat it."""
    model, adapter = TinyModel("llama"), path.with_name("adapter.gguf")
    path.write_bytes(model.file(with_factors(RATIOS)))
    adapter.write_bytes(Adapter(model, 1).file())
    steps = [["eval", TOKENS, 0, 0], ["adapters", [[str(adapter), 1.0]]], ["eval", [1], len(TOKENS), 0]]
    line = f"ggufrope: {SAID}; --no-fallback makes this an error"
    assert said(remote.run(path, steps)) == [line]
    assert said(remote.run_here(path, steps)) == []
    path.write_bytes(TinyModel("llama").file(with_factors(np.full((3, 2), 1.5))))
    assert said(remote.run(path, steps)) == []  # one row a layer, which any backend runs


def test_factors_of_a_program_are_looked_at_too(remote: Remote, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(TinyModel("llama").file())
    some, ones = [1.0] * 4 + [1.5, 1.2], [1.0] * 6
    steps = [["set", some], ["clear"], ["set", ones], ["set", some], ["eval", TOKENS, 0, 0]]
    lines = said(remote.run(path, steps))
    assert len(lines) == 2
    assert all(line.startswith("ggufrope: 2 ropes of 1 of 3 layers run on CPU, as RPC0 ") for line in lines)

    monkeypatch.setenv("GGUFROPE_NO_FALLBACK", "1")
    outcome = remote.run(path, [["set", some], ["get"], ["eval", TOKENS, 0, 0]])
    assert outcome.arrays[0].tolist() == [0.0]
    assert outcome.arrays[1].tolist() == ones  # the context is as it was
    assert "ggufrope_set_head_factors: --no-fallback: 2 ropes of 1 of 3 layers run on CPU, as RPC0 " in outcome.log
    np.testing.assert_allclose(outcome.arrays[2], TinyModel("llama").logits(TOKENS), atol=1e-4)


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("llama-completion", "--no-fallback"),
        ("llama-completion", "LLAMA_ARG_NO_FALLBACK"),
        ("llama-server", "--no-fallback"),
        ("llama-server", "GGUFROPE_NO_FALLBACK"),
        ("llama-bench", "GGUFROPE_NO_FALLBACK"),  # whose options are its own
    ],
)
def test_programs_can_refuse_it(remote: Remote, path: Path, program: str, how: str) -> None:
    if not (remote.patched / program).exists():
        pytest.skip(f"{program} is not in this build")
    path.write_bytes(TinyModel("llama").file(with_factors(RATIOS), words=True))
    more = {"llama-completion": ["-p", "3 4", "-n", "2", "-no-cnv"], "llama-server": ["--port", "0"]}
    line = [str(remote.patched / program), "-m", str(path), *more.get(program, ["-p", "8", "-n", "0", "-r", "1"])]
    option, variable = ([how], {}) if how[0] == "-" else ([], {how: "1"})
    pipes = {"capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([*line, *option], env=remote.environment() | variable, check=False, **pipes)
    assert done.returncode > 0
    assert f"--no-fallback: {SAID}; run it without that option" in done.stderr or program == "llama-bench"
    if program == "llama-completion":
        done = subprocess.run(line, env=remote.environment(), check=True, **pipes)
        assert done.stderr.count(SAID) == 1


LOAD = """
import json, pathlib, sys, warnings
import ggufrope
from ggufrope.errors import GgufropeError
from ggufrope.runtime.declarations import declared
from ggufrope.runtime.library import bindings
from rpc_backend import add_server
libraries, rpc, endpoint, order = sys.argv[1:]
bindings()
add_server(pathlib.Path(libraries), pathlib.Path(rpc), endpoint)
answers = []
for path, no_fallback, of_process in json.loads(order):
    declared(bindings().llama_cpp._lib, "ggufrope_set_no_fallback")(of_process)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ggufrope.load(path, n_ctx=64, n_gpu_layers=99, no_fallback=no_fallback).close()
            answers.append("")
        except GgufropeError as error:
            answers.append(str(error))
    answers += [str(each.message) for each in caught if each.category is RuntimeWarning]
print(json.dumps(answers))
"""


def test_load_warns_or_refuses(remote: Remote, path: Path) -> None:
    plain = path.with_name("plain.gguf")
    plain.write_bytes(TinyModel("llama").file(words=True))
    path.write_bytes(TinyModel("llama").file(with_factors(RATIOS), words=True))
    order = json.dumps(
        [[str(path), False, False], [str(path), True, False], [str(plain), True, True], [str(path), False, True]]
    )
    folders = os.pathsep.join(map(str, (Path(__file__).parents[1], Path(ggufrope.__file__).parents[1])))
    environment = os.environ | {"GGUFROPE_RUNTIME": str(remote.patched), "PYTHONPATH": folders}
    line = [sys.executable, "-c", LOAD, str(remote.patched), str(remote.rpc), remote.endpoint, order]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "",
        f"{path}: {SAID}; no_fallback=True makes this an error",
        f"{path}: no_fallback: {SAID}; load it without no_fallback, or with n_gpu_layers=0",
        "",
        f"{path}: llama.cpp refused it: failed to initialize the context: --no-fallback: {SAID}; run it without that "
        "option, or with these layers on another device (-ngl, --device); `ggufrope inspect` shows what it says",
    ]


def said(outcome: Outcome) -> list[str]:
    """What was said of ropes that run elsewhere."""
    return [line for line in outcome.log.splitlines() if line.startswith("ggufrope: ") and " run on " in line]


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

"""Devices prove that they rotate by several rows before a context does so; one that is wrong loses these ropes.

Wrong devices here: a server of stock llama.cpp that the guard lets through, and a library that changes results. That
the cases notice wrong kernels is shown in ``kernels/test_selftest_mutations.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from llama_process import Outcome, run_job
from preloaded import compile_preload
from rpc_backend import compile_rpc, serving
from test_runtime_head_factors import RATIOS, with_factors
from tiny_transformer import ARCHITECTURES, TinyModel

from ggufrope.cli import cli
from ggufrope.errors import RuntimeLibraryError, UsageError
from ggufrope.runtime.device_check import CaseCheck, DeviceCheck, check_devices
from ggufrope.runtime.locate import Runtime, locate

TOKENS = np.random.default_rng(1).integers(0, 64, 120).tolist()
EVAL = ["eval", TOKENS, 0, 0]
TESTED = re.compile(r"ggufrope: devices were tested on (\d\d) rotations in \S+ ms")
WARNING = re.compile(r"ggufrope: device (\S+) .*?: (.*) is off by (\S+), allowed are (\S+) \(of the largest value\)")


@pytest.fixture(scope="module")
def wrong(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_preload("wrong_device.cpp", tmp_path_factory.mktemp("wrong"))


@pytest.fixture(scope="module")
def rpc(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The library of the RPC backend, and the guard that lets everything through."""
    folder = tmp_path_factory.mktemp("rpc")
    guard = compile_preload("guard_open.cpp", folder)
    return compile_rpc(runtime_dir, folder), guard


@pytest.fixture(scope="module")
def endpoint(rpc: tuple[Path, Path], stock_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(stock_dir, rpc[0], tmp_path_factory.mktemp("server") / "log") as endpoint:
        yield endpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


class TestADeviceThatLies:
    @pytest.mark.parametrize("arch", ARCHITECTURES)
    def test_is_caught_and_the_logits_are_right(
        self, runtime_dir: Path, rpc: tuple[Path, Path], endpoint: str, path: Path, arch: str, monkeypatch
    ) -> None:
        model = TinyModel(arch)
        path.write_bytes(model.file(with_factors(RATIOS)))
        monkeypatch.setenv("LD_PRELOAD", str(rpc[1]))
        outcome = run_job(runtime_dir, path, [EVAL], rpc=(rpc[0], endpoint))
        assert not outcome.error, outcome.last_error
        assert "offloaded 4/4 layers to GPU" in outcome.log
        device, what, error, limit = WARNING.findall(outcome.log)[0]
        assert device == "RPC0"
        assert "set_rows, mode " in what
        assert float(error) > 100 * float(limit)
        assert "the CPU takes these ropes" in outcome.log
        assert "`ggufrope runtime check`" in outcome.log
        np.testing.assert_allclose(outcome.arrays[0], model.logits(TOKENS, RATIOS), atol=1e-4)

    def test_is_tested_when_a_program_sets_factors(
        self, runtime_dir: Path, rpc: tuple[Path, Path], endpoint: str, path: Path, monkeypatch
    ) -> None:
        """Once: the second time it is known."""
        model = TinyModel("llama")
        path.write_bytes(model.file())
        monkeypatch.setenv("LD_PRELOAD", str(rpc[1]))
        factors = RATIOS.ravel().tolist()
        steps = [["set", factors], EVAL, ["clear"], ["set", [1.0] * len(factors)], ["set", factors], EVAL]
        outcome = run_job(runtime_dir, path, steps, rpc=(rpc[0], endpoint))
        assert len(WARNING.findall(outcome.log)) == 1
        for logits in (outcome.arrays[1], outcome.arrays[-1]):
            np.testing.assert_allclose(logits, model.logits(TOKENS, RATIOS), atol=1e-4)

    def test_is_not_tested_for_a_file_without_rows(
        self, runtime_dir: Path, rpc: tuple[Path, Path], endpoint: str, path: Path, monkeypatch
    ) -> None:
        path.write_bytes(TinyModel("llama").file())
        monkeypatch.setenv("LD_PRELOAD", str(rpc[1]))
        log = run_job(runtime_dir, path, [EVAL], rpc=(rpc[0], endpoint)).log
        assert "devices were tested" not in log
        assert not WARNING.findall(log)


class TestAWrongCpu:
    def run(self, runtime_dir: Path, path: Path, wrong: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> Outcome:
        monkeypatch.setenv("LD_PRELOAD", str(wrong))
        monkeypatch.setenv("WRONG_HOW", how)
        return run_job(runtime_dir, path, [EVAL])

    @pytest.mark.parametrize(
        ("how", "says"),
        [
            ("sign", r"is off by \S+, allowed are \S+ \(of the largest value\)"),
            ("nan", "gives no number"),
            ("cosine", r"with a row of factors for each KV head is off by \S+, allowed are"),
            ("status", "could not be tested: computing ended with status -1"),
        ],
    )
    def test_no_context(
        self, runtime_dir: Path, path: Path, wrong: Path, how: str, says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.write_bytes(TinyModel("llama").file(with_factors(RATIOS)))
        outcome = self.run(runtime_dir, path, wrong, how, monkeypatch)
        assert outcome.error == "context"
        assert re.match(rf"device CPU \(.*, backend CPU\): .*, mode norm, .*{says}", outcome.last_error)
        assert "no device is left that rotates rightly" in outcome.last_error
        assert "`ggufrope runtime build`" in outcome.last_error

    def test_what_was_interrupted_is_tested_again(
        self, runtime_dir: Path, path: Path, wrong: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.write_bytes(TinyModel("llama").file())
        steps = [["set", RATIOS.ravel().tolist()], ["why"]]
        right = run_job(runtime_dir, path, steps)
        monkeypatch.setenv("LD_PRELOAD", str(wrong))
        monkeypatch.setenv("WRONG_HOW", "throw once")
        interrupted = run_job(runtime_dir, path, steps * 2)
        assert [array[0] for array in interrupted.arrays] == [0.0, "the device was lost", 1.0, ""]
        [expected], [found] = (TESTED.findall(outcome.log) for outcome in (right, interrupted))
        assert found == expected

    def test_files_without_rows_run(
        self, runtime_dir: Path, path: Path, wrong: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.write_bytes(TinyModel("llama").file())
        assert not self.run(runtime_dir, path, wrong, "sign", monkeypatch).error

    def test_the_last_digit_is_a_warning(
        self, runtime_dir: Path, path: Path, wrong: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = TinyModel("llama")
        path.write_bytes(model.file(with_factors(RATIOS)))
        outcome = self.run(runtime_dir, path, wrong, "digit", monkeypatch)
        assert [found[0] for found in WARNING.findall(outcome.log)] == ["CPU"]
        np.testing.assert_allclose(outcome.arrays[0], model.logits(TOKENS, RATIOS), atol=1e-4)


def test_a_right_device_passes_in_silence(runtime_dir: Path, path: Path) -> None:
    path.write_bytes(TinyModel("llama").file(with_factors(RATIOS)))
    log = run_job(runtime_dir, path, [EVAL]).log
    assert TESTED.search(log)
    assert not WARNING.findall(log)


class TestByHand:
    def test_all_cases_pass_on_this_build(self, runtime_dir: Path) -> None:
        devices, _ = check_devices(locate())
        assert devices[-1].name == "CPU"
        assert devices[-1].good
        cases = devices[-1].cases
        assert {case.verdict for case in cases} == {"passed"}
        assert {case.mode for case in cases} == {"norm", "neox", "mrope", "imrope", "vision"}
        norm = "rms_norm + mul + rope"
        assert {case.op for case in cases if case.mode == "neox"} == {
            "rope", "rope in place", "rope_back", "rope + set_rows", norm, f"{norm} + set_rows"
        }  # fmt: skip
        assert {case.type for case in cases if case.mode == "norm"} == {"f32", "f16", "f32 to f32", "f32 to f16"}
        assert all(0 < case.error <= case.limit for case in cases)

    def test_command(self, runtime_dir: Path) -> None:
        done = CliRunner().invoke(cli, ["runtime", "check", "--device", "CPU"], catch_exceptions=False)
        assert done.exit_code == 0
        assert re.search(r"^\*\*CPU\*\* \(CPU\): .*; (\d+) of \1 cases passed$", done.output, re.MULTILINE)
        assert re.search(r"^\| rope \| neox \| f16 \| yarn \| \S+ \| \S+ \|  \| passed \|$", done.output, re.MULTILINE)
        facts = json.loads(CliRunner().invoke(cli, ["runtime", "check", "--json"], catch_exceptions=False).output)
        assert facts["path"] == str(runtime_dir)
        assert facts["devices"][-1]["cases"][0]["verdict"] == "passed"

    def test_a_wrong_device_is_exit_code_1(
        self, runtime_dir: Path, wrong: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LD_PRELOAD", str(wrong))
        monkeypatch.setenv("WRONG_HOW", "sign")
        from ggufrope import cli as package

        assert package.main(["runtime", "check", "--device", "CPU"]) == 1

    def test_an_exception_is_a_failure(self, runtime_dir: Path, wrong: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LD_PRELOAD", str(wrong))
        monkeypatch.setenv("WRONG_HOW", "throw")
        devices, _ = check_devices(locate())
        assert {(case.verdict, case.problem) for case in devices[-1].cases} == {("failed", "the device was lost")}
        assert not devices[-1].good

    def test_no_such_device(self, runtime_dir: Path) -> None:
        with pytest.raises(UsageError, match=r"--device CUDA7: .* sees no such device; choose from .*CPU"):
            check_devices(locate(), ("CUDA7",))

    def test_an_unpatched_build(self, stock_dir: Path) -> None:
        with pytest.raises(RuntimeLibraryError, match=r"cannot test devices: .*ggufrope_check_device.*runtime build"):
            check_devices(locate(stock=True))

    def test_a_process_that_dies_is_started_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        case = asdict(CaseCheck("rope", "neox", "f32", "", "passed", "", 0.0, 1.0, 0))
        listed = [{"name": "X", "description": "a chip", "backend": "B"}]
        answers = iter(
            [listed, [case], [case, {}], listed, [case], [case], [case], listed, [case | {"verdict": "failed"}]]
        )
        monkeypatch.setattr("ggufrope.runtime.device_check._ask", lambda *_: (next(answers), ()))
        runtime = Runtime(Path(), "", "", "cpu", ())
        (device,), said = check_devices(runtime)
        assert device.good
        assert said == ("X: the process that tested it ended early; started 2 times",)
        (device,), said = check_devices(runtime)
        assert device.summary == "1 of 1 cases passed; the process ended before all cases had run"
        assert not device.good
        assert said == ("X: the process that tested it ended early; started 3 times",)
        (device,), said = check_devices(runtime)  # wrong and dead: that is enough
        assert device.cases[0].verdict == "failed"

    def test_a_driver_that_dies_at_once_leaves_the_other_devices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        case = asdict(CaseCheck("rope", "neox", "f32", "", "passed", "", 0.0, 1.0, 0))
        listed = [{"name": name, "description": "a chip", "backend": "B"} for name in "XY"]
        started: list[str] = []

        def ask(_runtime: Runtime, names: list[str], _limit: float) -> tuple[list[dict], tuple[str, ...]]:
            started.extend(names)
            if names == ["X"]:
                raise RuntimeLibraryError("a library cannot test devices: exit status -11; build it again")
            return ([case, {}] if names else listed), ()

        monkeypatch.setattr("ggufrope.runtime.device_check._ask", ask)
        (dead, other), said = check_devices(Runtime(Path(), "", "", "cpu", ()))
        assert started == ["X", "X", "X", "Y"]
        assert "exit status -11" in dead.summary
        assert not dead.good
        assert other.good
        assert said == ("X: the process that tested it ended early; started 3 times",)

    def test_what_is_good(self) -> None:
        def case(verdict: str) -> CaseCheck:
            return CaseCheck("rope", "neox", "f32", "", verdict, "", 0.0, 0.0, 0)

        for verdict, good in (
            ("passed", True), ("no op", True), ("failed", False), ("refused", False), ("not fused", False),
        ):  # fmt: skip
            assert DeviceCheck("X", "", "", (case("passed"), case(verdict))).good == good
        assert not DeviceCheck("X", "", "", (case("passed"),), "it died").good

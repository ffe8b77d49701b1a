"""Commands that run a model, and native code that ends their process: one line, exit code 2, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from dying import dying_environment
from tiny_transformer import TinyModel

from ggufrope.modelfile.model_file import ModelFile

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
pytestmark = [
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.skipif(sys.platform == "win32", reason="commands run in one process there"),
    pytest.mark.usefixtures("runtime_dir"),
]


def _heed_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


Start = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and the reference for it: another file of the same numbers."""
    folder = tmp_path_factory.mktemp("pair")
    for name in ("model", "reference"):
        (folder / f"{name}.gguf").write_bytes(TinyModel("llama").file(words=True))
    return folder / "model.gguf", folder / "reference.gguf"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(arguments, at, how)``: the program, which dies at graph ``at``, or lives without ``how``."""

    running = []

    def start(arguments: list[object], at: int = 0, how: str = "", **options: object) -> subprocess.Popen:
        more = dying_environment(tmp_path, at, how) if how else {}
        command = [sys.executable, "-m", "ggufrope", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        # whoever runs tests in the background or under nohup has signals ignored, and children inherit that
        pipes |= {"preexec_fn": _heed_signals}
        running.append(subprocess.Popen(command, env=os.environ | more, text=True, **pipes))  # type: ignore[call-overload]
        return running[-1]

    yield start
    for process in running:
        process.kill()
        with process:  # closes what it was read through
            pass


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def validate(pair: tuple[Path, Path], *options: object) -> list[object]:
    return ["validate", pair[0], "--reference", pair[1], "--length", 48, *options]


WORDS = {
    "assert": "llama.cpp stopped: ggml.c:42: GGML_ASSERT(n_rows > 0) failed (SIGABRT)",
    "throw": "llama.cpp stopped: std::runtime_error: no such expert (SIGABRT)",
    "abort": "the process that ran it ended by SIGABRT",
    "segv": "the process that ran it ended by SIGSEGV",
    "kill": "the process that ran it was killed, as systems do when memory runs out",
}


@pytest.mark.parametrize("how", WORDS)
def test_one_line_with_the_last_words(start: Start, pair: tuple[Path, Path], how: str) -> None:
    code, out, err = ended(start(validate(pair), 1, how))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err  # no debugger, no backtrace, no "terminate called"
    assert err.startswith(f"ggufrope: {pair[1]}: {WORDS[how]}; "), err
    assert "--kv-type" in err


def test_the_file_that_was_computed_is_named(start: Start, pair: tuple[Path, Path]) -> None:
    """Two are open: the reference is computed first."""
    _, _, err = ended(start(validate(pair), 2, "assert"))
    assert err.startswith(f"ggufrope: {pair[0]}: llama.cpp stopped: ggml.c:42")


def test_debug_leaves_the_death_to_a_debugger(start: Start, pair: tuple[Path, Path]) -> None:
    assert ended(start(["--debug", *validate(pair)], 1, "segv"))[0] == -signal.SIGSEGV


def test_a_command_that_lives_is_as_it_was(start: Start, pair: tuple[Path, Path]) -> None:
    """Exit codes, both outputs and their order come through; so does what native code prints."""
    code, out, err = ended(start(validate(pair, "--json")))
    assert code == 0
    assert json.loads(out)["passed"]
    assert err == "48/48\n"
    assert ended(start(validate(pair, "--length", 0)))[0] == 2
    both = start(validate(pair), stderr=subprocess.STDOUT)
    assert ended(both)[1].startswith("48/48\n")


def test_the_progress_is_drawn_on_the_terminal(start: Start, pair: tuple[Path, Path]) -> None:
    import pty

    def seen(*dying: object) -> tuple[int, bytes]:
        mine, theirs = pty.openpty()
        process = start(validate(pair), *dying, stderr=theirs)
        os.close(theirs)
        found = b""
        with suppress(OSError), os.fdopen(mine, "rb", buffering=0) as screen:  # OSError: nobody has the other end
            while part := screen.read(4096):
                found += part
        return process.wait(timeout=60), found

    code, text = seen(1, "assert")
    assert code == 2
    assert text.count(b"ggufrope: ") == 1
    assert b"GGML_ASSERT" in text
    code, text = seen()
    assert code == 0
    assert b"[####" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("to_all", [False, True], ids=["to one", "to all"])
def test_signals_arrive_once(
    start: Start, pair: tuple[Path, Path], number: signal.Signals, code: int, to_all: bool
) -> None:
    """A terminal and `timeout` send them to the whole group, `kill` to the process that it knows."""
    process = start(validate(pair), 1, "wait", start_new_session=True)
    assert process.stdout.readline() == "waiting\n"
    (os.killpg if to_all else os.kill)(process.pid, number)
    found, out, err = ended(process)
    assert (found, out) == (code, "")
    assert err.strip() == ("ggufrope: interrupted; nothing was changed" if number == signal.SIGINT else "")


def test_the_child_ends_with_a_parent_that_is_killed(start: Start, pair: tuple[Path, Path]) -> None:
    process = start(validate(pair), 1, "wait")
    assert process.stdout.readline() == "waiting\n"
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    assert process.stdout.read() == ""  # ends once nobody can write any more
    assert process.wait(timeout=60) == -signal.SIGKILL
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child goes on alone")


def test_cells_that_were_done_are_kept(start: Start, demo_file: Callable[..., Path], tmp_path: Path) -> None:
    """Each of the two cells is one graph."""
    file, results = demo_file(), tmp_path / "results.jsonl"
    task = ["--task", "ppl", "--text", DEMO / "calibration.txt", "--lengths", "128,256", "--limit", 1]
    command = ["eval", file, *task, "--threads", 1, "-o", tmp_path]
    code, _, err = ended(start(command, 2, "assert"))
    assert code == 2
    assert err.splitlines()[-1].startswith(f"ggufrope: {file}: llama.cpp stopped: ggml.c:42: GGML_ASSERT")
    assert f"finished cells are in {results}, and the same command goes on from there" in err
    kept = results.read_bytes()
    assert kept.count(b"\n") == 1
    assert ended(start(command))[0] == 0
    assert results.read_bytes().startswith(kept)
    assert results.read_bytes().count(b"\n") == 2


def test_calibration_goes_on_where_it_died(start: Start, demo_file: Callable[..., Path], tmp_path: Path) -> None:
    file, heads, text = demo_file(), tmp_path / "heads.json", DEMO / "calibration.txt"
    command = ["calibrate", file, "--text", text, "-o", heads, "--lengths", "32", "--prompts", 3]
    code, _, err = ended(start(command, 3, "segv"))
    assert code == 2
    assert err.splitlines()[-1].startswith(f"ggufrope: {file}: the process that ran it ended by SIGSEGV")
    partial = tmp_path / "heads.json.partial"
    assert f"what was read is in {partial}, and the same command goes on from there" in err
    assert not heads.exists()
    assert partial.exists()
    code, out, _ = ended(start(command))
    assert code == 0
    assert "(1 of 3 prompts read now)" in out
    assert heads.exists()
    assert not partial.exists()


def test_a_conversion_leaves_no_output(start: Start, demo_file: Callable[..., Path], tmp_path: Path) -> None:
    file, text, out = demo_file(), tmp_path / "text", tmp_path / "out.gguf"
    text.write_text((DEMO / "calibration.txt").read_text()[:6000])
    code, _, err = ended(start(["convert", file, "-o", out, "--method", "ms-poe", "--calibrate", text], 2, "throw"))
    assert code == 2
    assert err.splitlines()[-1].startswith(f"ggufrope: {file}: llama.cpp stopped: std::runtime_error: no such expert")
    assert "--head-ratios" in err
    assert not out.exists()


@pytest.mark.parametrize("how", ["kill", "assert"])
def test_a_check_that_dies_keeps_the_output(
    start: Start, demo_file: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    """24 prompts are read to calibrate; then the file is complete, and read to be checked."""
    file, text, out = demo_file(), tmp_path / "text", tmp_path / "out.gguf"
    text.write_text((DEMO / "calibration.txt").read_text()[:6000])
    code, said, err = ended(start(["convert", file, "-o", out, "--method", "ms-poe", "--calibrate", text], 26, how))
    assert (code, said) == (2, "")
    assert err.splitlines()[-1].startswith(f"ggufrope: {out}: {WORDS[how]}")
    assert err.rstrip().endswith(f"{out} is complete, and was not checked (--no-check omits that)")
    assert ModelFile.open(out).decoded.table is not None
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".gguf") == ["out.gguf"]

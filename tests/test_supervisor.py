"""Which commands run in a child, and what is read from what it leaves; deaths: runtime/test_native_death.py."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ggufrope import last_words, supervisor
from ggufrope.cli import COMMANDS

ABORT = "/src/llama.cpp/ggml/src/ggml-cpu/ops.cpp:5431: GGML_ASSERT(ne0 %% 64 == 0) failed\n"
THROWN = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", ""),
        ("\x1efile\ta.gguf\n", ""),
        (ABORT, "ops.cpp:5431: GGML_ASSERT(ne0 %% 64 == 0) failed"),
        (
            "ggml_cuda_init: found 1 device\n" + ABORT + "\x1elog\tx\n",
            "ops.cpp:5431: GGML_ASSERT(ne0 %% 64 == 0) failed",
        ),
        (THROWN, "std::bad_alloc: std::bad_alloc"),
        ("terminate called after throwing an instance of 'int'\n", "int"),
        ("half a line\x1efile\ta.gguf\n\nfree(): invalid pointer\n", "free(): invalid pointer"),
    ],
)
def test_last_words(said: str, words: str) -> None:
    assert last_words.last_words(said) == words


def test_notes_and_what_others_wrote() -> None:
    said = "one\n\x1efile\ta.gguf\ntwo \x1efile\tb c.gguf\n\x1elog\tbad\tkey\nthree\n"
    assert last_words.notes(said) == {"file": "b c.gguf", "log": "bad\tkey"}
    assert last_words.native_text(said) == "one\ntwo three\n"


def test_notes_of_a_process_without_such_a_parent_go_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    last_words.note("file", "a.gguf")
    assert capfd.readouterr() == ("", "")


def test_commands_that_have_a_child_exist_and_their_remedies_are_options() -> None:
    import click

    from ggufrope.cli import cli

    assert set(supervisor.NATIVE) < set(COMMANDS)
    for name, remedy in supervisor.NATIVE.items():
        if name == "lm-eval":  # its options are lm_eval's
            continue
        command = cli.get_command(click.Context(cli), name)
        options = {option for parameter in command.params for option in parameter.opts}
        named = {word.strip(",") for word in remedy.split(", from")[0].split() if word.startswith("--")}
        assert named
        assert named <= options


def test_help_and_other_commands_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        "inspect a.gguf",
        "convert a.gguf --method yarn",
        "eval --list-tasks",
        "validate --help",
        "--debug eval x",
        "",
    ):
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "ggufrope", *line.split()])
        assert not supervisor._wanted(line.split()), line
    for line in ("eval a.gguf", "convert a --calibrate t", "convert a --calibrate=t", "validate a --reference b"):
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "ggufrope", *line.split()])
        assert supervisor._wanted(line.split()) is (sys.platform != "win32"), line
        monkeypatch.setattr(sys, "orig_argv", ["python", "their_program.py"])  # which is not ours to run again
        assert not supervisor._wanted(line.split())


KILLED = "os.kill = lambda *_: print('killed'); signal.raise_signal(signal.SIGTERM)"
#: A program whose command says that it ran. A signal arrives before or after the function ``at`` of the module ``os``.
SIGNALLED = """
import os, signal, sys, time
from ggufrope import last_words, supervisor
if last_words.VARIABLE in os.environ:
    print("ran", flush=True)
    time.sleep({seconds})
    raise SystemExit(5)
function = os.{at}
def signalled(*given, **named):
    {before}
    found = function(*given, **named)
    {after}
    return found
os.{at} = signalled
print(supervisor.supervise(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="commands run in one process there")
@pytest.mark.parametrize(
    ("at", "before", "after", "seconds", "seen"),
    [
        ("waitpid", "pass", "signal.raise_signal(signal.SIGHUP)", 0, ["ran", "5"]),
        ("posix_spawn", "signal.raise_signal(signal.SIGTERM)", "pass", 60, ["143"]),
        ("posix_spawn", "pass", "signal.raise_signal(signal.SIGHUP)", 60, ["129"]),
    ],
    ids=["when it has ended", "before it is started", "before its number is known"],
)
def test_a_signal_at_a_bad_moment(at: str, before: str, after: str, seconds: int, seen: list[str]) -> None:
    """The command is not run a second time, and what arrived early is handed on."""
    program = SIGNALLED.format(at=at, before=before, after=after, seconds=seconds)
    done = subprocess.run(
        [sys.executable, "-c", program, "validate", "a.gguf"], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stderr == ""
    assert [line for line in done.stdout.splitlines() if seconds == 0 or line != "ran"] == seen


@pytest.mark.skipif(sys.platform == "win32", reason="commands run in one process there")
def test_a_signal_before_a_child_that_cannot_be_started_is_not_lost() -> None:
    program = SIGNALLED.format(
        at="posix_spawn", before="signal.raise_signal(signal.SIGTERM)", after="pass", seconds=0
    ).replace("found = function(", "raise OSError; found = function(")
    done = subprocess.run(
        [sys.executable, "-c", program, "validate", "a.gguf"], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


@pytest.mark.skipif(sys.platform == "win32", reason="commands run in one process there")
def test_a_signal_after_the_end_goes_to_nobody() -> None:
    """The child's number may be another process's by then."""
    program = SIGNALLED.format(at="waitstatus_to_exitcode", before=KILLED, after="pass", seconds=0)
    done = subprocess.run(
        [sys.executable, "-c", program, "validate", "a.gguf"], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.splitlines() == ["ran", "5"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE")
@pytest.mark.parametrize("arguments", [["methods"], ["--help"], ["methods", "--json"], ["eval", "--help"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    """What `| head` leaves: nothing on standard error, and the exit code of a program that SIGPIPE ended."""
    command = [sys.executable, "-m", "ggufrope", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141

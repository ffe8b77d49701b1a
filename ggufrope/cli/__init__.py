"""The command line: one file per command, each parsing options, calling the library and echoing the result."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

import click

from ggufrope import __version__
from ggufrope.errors import CheckFailed, GgufropeError

__all__ = ["main"]

#: name → first line of its help. Commands are imported when they run, so that ``--help`` stays instant.
COMMANDS = {
    "convert": "Write a RoPE-scaling method into a GGUF, or convert a Hugging Face directory with it.",
    "inspect": "Show FILE's RoPE scaling and frequencies, and which runtimes apply them.",
    "plan": "List the methods that extend FILE to N tokens, with known results for each, and the memory needed.",
    "diff": "Show the keys and tensors in which two GGUF files differ; exit code 1 if there are any.",
    "strip": "Undo a conversion: restore the source of FILE.",
    "methods": "List the methods and their parameters.",
    "calibrate": "Measure how position-aware each head of FILE is, and write Ms-PoE's head order and ratios.",
    "tune": "Learn the frequency table that helps FILE at a task, prove it on texts it has not seen, and write it.",
    "validate": "Compare FILE's log-probabilities on the patched runtime with a reference, at every position.",
    "eval": "Run a long-context benchmark on GGUF files: one task, by length, depth and type of the KV cache.",
    "report": "Write a report on results of `ggufrope eval`: heat maps, curves, differences with intervals, settings.",
    "lm-eval": "Run lm-evaluation-harness with `ggufrope` as one of its models.",
    "quantize": "Quantize IN to OUT as TYPE (Q8_0, Q4_K_M, ...), keeping every ggufrope.* key byte for byte.",
    "run": "Continue a prompt with upstream's llama-completion, or chat with llama-cli.",
    "serve": "Serve a model over HTTP with upstream's llama-server.",
    "bench": "Measure prompt and generation speed with upstream's llama-bench.",
    "runtime": "Build, describe or find the patched llama.cpp.",
}


#: Commands that do no linear algebra: starting threads for it is a third of numpy's import (measured: 40 of 130 ms).
_NO_THREADS = {"convert", "inspect", "plan", "diff", "strip", "methods"}


_PIPE_CLOSED = 128 + 13  # SIGPIPE


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        if name not in COMMANDS:
            from ggufrope.text import did_you_mean  # late, as everything that --help does without

            hint = did_you_mean(name, COMMANDS, "`ggufrope --help` lists them", cutoff=0.6)
            raise click.UsageError(f"no command '{name}': {hint}")
        if name in _NO_THREADS:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        loaded: click.Command = importlib.import_module(f"ggufrope.cli.{name.replace('-', '_')}").command
        loaded.name = name
        return loaded

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ggufrope")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """RoPE scaling for GGUF models: write it into the file, run it, prove it.

    Exit codes: 0 done; 1 a check did not hold; 2 bad usage or bad input.
    """


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code; never a traceback without ``--debug``."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments[: next((i for i, a in enumerate(arguments) if a in COMMANDS), len(arguments))]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)  # so that temporary files are removed on the way out
    streams = sys.stdout, sys.stderr
    try:
        result: Any = cli.main(arguments, prog_name="ggufrope", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as done:  # an upstream program's own exit code, or click's 1 for a reader that went away
        if (sys.stdout, sys.stderr) != streams:  # click puts wrappers there that keep quiet about it
            sys.stdout, sys.stderr = streams
            return _report(BrokenPipeError())
        return done.code if isinstance(done.code, int) else 0
    except BaseException as error:
        if debug and not isinstance(error, (click.ClickException, click.exceptions.Exit)):
            raise
        return _report(error)
    return result if isinstance(result, int) else 0


def _terminated(number: int, _frame: object) -> None:
    # `timeout` and others send it to a command and its children: once will do (SIG_IGN would be inherited)
    signal.signal(number, lambda _number, _frame: None)
    raise SystemExit(143)


def _report(error: BaseException) -> int:
    """Say in one line what went wrong, and return the exit code for it."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message())
            return 2
        case click.ClickException():
            code, message = 2, error.format_message()
        case CheckFailed():
            code, message = 1, str(error)
        case GgufropeError():
            code, message = 2, str(error)
        case KeyboardInterrupt() | click.Abort():
            code, message = 130, str(error.__cause__ or error) or "interrupted; nothing was changed"
        case BrokenPipeError():  # `| head` closed the pipe: quiet, and the exit code of programs that SIGPIPE ended
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # keeps imports few
                os.dup2(nowhere.fileno(), sys.__stdout__.fileno())  # type: ignore[union-attr]  # ValueError if None
            return _PIPE_CLOSED
        case _:
            code, message = 2, f"unexpected {type(error).__name__}: {error} (--debug shows where)"
    click.echo(f"ggufrope: {' '.join(message.split())}", err=True)
    return code

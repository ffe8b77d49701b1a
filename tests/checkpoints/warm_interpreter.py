"""A Python that has torch, transformers and llama.cpp's converter loaded already, and forks for every command.

A conversion starts a Python of its own, which spends four of its five seconds on imports. ``WarmInterpreter.run``
stands in for ``subprocess.run``: it carries out the same command line in a fork of a process that has done them. One
thing differs there: a vocabulary that was made up for a test is taken for GPT-2's, where the converter would stop
at a tokenizer that it does not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

__all__ = ["WarmInterpreter"]

ROOT = Path(__file__).resolve().parents[2]


class WarmInterpreter:
    """One process that waits for commands; they are run one at a time."""

    def __init__(self, source: Path) -> None:
        """``source`` is the pinned llama.cpp."""
        self._run = subprocess.run
        environ = os.environ | {
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "GGML_NO_BACKTRACE": "1",
        }
        command = [sys.executable, __file__, str(source)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """``subprocess.run`` for commands that start this Python; others are left to the real one."""
        if command[0] != sys.executable or options.keys() - {
            "capture_output",
            "text",
            "check",
            "env",
            "cwd",
            "timeout",
        }:
            return self._run(command, **options)
        with tempfile.TemporaryDirectory() as folder:
            said = [Path(folder) / name for name in ("stdout", "stderr")]
            request = {
                "arguments": command[1:], "outputs": list(map(str, said)), "cwd": str(options.get("cwd") or Path.cwd()),
                "environ": dict(options.get("env") or os.environ),
            }  # fmt: skip
            assert self._process.stdin and self._process.stdout
            print(json.dumps(request), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            done = subprocess.CompletedProcess(command, status, *(p.read_text(errors="replace") for p in said))
        if options.get("check"):
            done.check_returncode()
        return done


def _serve(source: Path) -> None:
    sys.path[:0] = [str(ROOT), str(source), str(source / "gguf-py")]
    import conversion
    import diskcache  # noqa: F401  # these for llama_cpp
    import jinja2.sandbox  # noqa: F401
    import sentencepiece
    import torch
    import transformers

    import ggufrope.modelfile.model_file
    import ggufrope.runtime.library  # noqa: F401

    torch.stack([torch.empty(1, device="meta")] * 2)  # as experts are stacked: it loads sympy and more
    conversion.load_all_models()
    transformers.AutoTokenizer, transformers.AutoConfig, sentencepiece.SentencePieceProcessor  # noqa: B018  # loads them
    conversion.TextModel.get_vocab_base_pre = lambda *_: "gpt-2"
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _child(request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _child(request: dict[str, Any]) -> None:
    status = 1
    with contextlib.suppress(BaseException):
        for number, path in enumerate(request["outputs"], 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environ"])
        try:
            _carry_out(request["arguments"])
            status = 0
        except SystemExit as end:
            if not isinstance(end.code, int | None):
                print(end.code, file=sys.stderr)
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _carry_out(arguments: list[str]) -> None:
    """What ``python ARGUMENTS`` does."""
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))

"""Whether a llama.cpp of our choice loads files: many in one process, a new one behind a file that ended it.

Run as a program it reads paths, one a line, and answers ``loads``, ``refuses`` with llama.cpp's reason, or ``context``
where a model loads and no context of 64 tokens can be made.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Loaded", "load_files"]


@dataclass(frozen=True)
class Loaded:
    """What came of a file: ``loads``, ``refuses``, ``aborts`` or ``context``, and llama.cpp's words."""

    outcome: str
    words: str = ""


def load_files(library: Path, paths: Sequence[Path]) -> list[Loaded]:
    """What the llama.cpp in ``library`` does with each file."""
    found: list[Loaded] = []
    while len(found) < len(paths):
        rest = [str(path) for path in paths[len(found) :]]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__],
            input="\n".join(rest),
            env={**os.environ, "LLAMA_CPP_LIB_PATH": str(library), "GGML_NO_BACKTRACE": "1"},
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            errors="replace",
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found += [Loaded(**line) for line in lines]
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if "GGML_ASSERT" in line]
            found.append(Loaded("aborts", words[-1] if words else done.stderr[-500:]))
        elif len(lines) < len(rest):
            raise RuntimeError(done.stderr[-2000:])
    return found


def _main() -> None:
    import llama_cpp.llama_cpp as ll

    said: list[str] = []
    keep = ll.llama_log_callback(lambda level, text, data: said.append(text.decode(errors="replace")))
    ll.llama_log_set(keep, None)
    ll.llama_backend_init()
    parameters, context_parameters = ll.llama_model_default_params(), ll.llama_context_default_params()
    context_parameters.n_ctx = context_parameters.n_batch = context_parameters.n_ubatch = 64
    for path in sys.stdin.read().splitlines():
        said.clear()
        model = ll.llama_model_load_from_file(path.encode(), parameters)
        outcome = "loads" if model else "refuses"
        if model:
            context = ll.llama_init_from_model(model, context_parameters)
            if context:
                ll.llama_free(context)
            else:
                outcome = "context"
            ll.llama_model_free(model)
        words = re.findall(r"error loading model[^:]*: (.*)", "".join(said))
        print(json.dumps({"outcome": outcome, "words": words[-1] if words else ""}), flush=True)


if __name__ == "__main__":
    _main()

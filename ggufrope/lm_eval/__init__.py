"""EleutherAI's lm-evaluation-harness on the patched llama.cpp: any of its tasks, under the model name ``ggufrope``.

Releases of lm_eval that look for entry points find the model by themselves. Those that do not (0.4.13 and older) are
told about it by ``run``, which is ``ggufrope lm-eval``; from Python, ``simple_evaluate(model=GgufropeLM(path=...))``.
lm_eval is imported when it is used; ``ggufrope.lm_eval.adapter`` is the only module that needs it to be there.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from ggufrope.errors import UsageError

__all__ = ["NAME", "register", "run"]

#: After ``--model``.
NAME = "ggufrope"
_MODULE = "ggufrope.lm_eval.adapter"


def register() -> None:
    """Tell lm_eval about the model class, unless it knows.

    Raises:
        UsageError: lm_eval is not installed, or is too old.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError("lm_eval is not installed; pip install 'ggufrope[eval]' brings it")
    try:
        importlib.import_module("lm_eval.models")  # its own models: it looks for them in an empty registry only
        from lm_eval.api.registry import model_registry
    except ImportError as error:
        raise UsageError(
            f"lm_eval: {error}; version 0.4.13 or newer is needed: pip install 'ggufrope[eval]'"
        ) from error
    if NAME not in model_registry:
        model_registry.register(NAME, target=f"{_MODULE}:GgufropeLM")


def run(arguments: Sequence[str]) -> None:
    """lm_eval's own command line, with this model known to it.

    Args:
        arguments: everything behind the program's name.

    Raises:
        UsageError: lm_eval is not installed, or what it was asked for makes no sense.
        SystemExit: lm_eval's own, for ``--help`` and what it cannot parse.
    """
    register()
    from lm_eval.__main__ import cli_evaluate

    before = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        cli_evaluate()
    except ValueError as error:  # how lm_eval refuses unknown tasks, limits and the like
        raise UsageError(f"lm_eval: {error}; `ggufrope lm-eval -- --help` shows its options") from error
    finally:
        sys.argv = before

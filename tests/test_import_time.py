"""``ggufrope --help`` must feel instant: it loads little more than click. scripts/bench/bench-files has the seconds."""

import subprocess
import sys

HEAVY = {"numpy", "torch", "transformers", "ctypes", "logging", "tempfile", "subprocess", "llama_cpp", "gguf"}


def loaded(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    mine = loaded("import sys; from ggufrope.cli import main; main(['--help']); print(*sys.modules)")
    mine -= loaded("import click, sys; print(*sys.modules)")
    assert not HEAVY & mine
    assert {name for name in mine if name.startswith("ggufrope.")} == {"ggufrope.cli", "ggufrope.errors"}


def test_numpy_is_not_loaded_before_a_header_is_read():
    """An edit in place has the kernel work while numpy is loaded: see ``gguf/ahead.py``, and use ``ggufrope.late``."""
    modules = "ggufrope.cli.convert, ggufrope.cli.strip, ggufrope.cli._show, ggufrope.convert.conversion"
    assert "numpy" not in loaded(f"import {modules}, sys; print(*sys.modules)")

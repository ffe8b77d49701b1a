"""``ggufrope --help`` must feel instant: it loads little more than click. scripts/bench-files has the seconds."""

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

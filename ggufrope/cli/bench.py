"""``ggufrope bench FILE -- OPTIONS``: upstream's program on the patched library."""

from __future__ import annotations

from pathlib import Path

import click

from ggufrope.cli._program import backend_option, become, fallback_option


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@backend_option
@fallback_option
def command(file: Path, options: tuple[str, ...], backend: str | None, no_fallback: bool) -> None:
    """Measure prompt and generation speed with upstream's llama-bench.

    Upstream's own options go after --, as in: ggufrope bench model.gguf -- -p 512 -n 64
    """
    become("bench", file, options, backend, no_fallback=no_fallback)

"""``ggufrope serve FILE -- OPTIONS``: upstream's program on the patched library."""

from __future__ import annotations

from pathlib import Path

import click

from ggufrope.cli._program import backend_option, become, fallback_option, order_option


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@backend_option
@order_option
@fallback_option
def command(
    file: Path, options: tuple[str, ...], backend: str | None, head_order: str | None, no_fallback: bool
) -> None:
    """Serve a model over HTTP with upstream's llama-server.

    Upstream's own options go after --, as in: ggufrope serve model.gguf -- -c 32768 --port 8080
    """
    become("serve", file, options, backend, head_order=head_order, no_fallback=no_fallback)

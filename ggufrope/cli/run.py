"""``ggufrope run FILE -- OPTIONS``: upstream's program on the patched library."""

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
@click.option("--chat", is_flag=True, help="Chat with the model's chat template, in llama-cli.")
def command(
    file: Path, options: tuple[str, ...], backend: str | None, head_order: str | None, no_fallback: bool, chat: bool
) -> None:
    """Continue a prompt with upstream's llama-completion, or chat with llama-cli.

    Upstream's own options go after --, as in: ggufrope run model.gguf -- -p "Once upon a time" -n 64
    """
    name = "chat" if chat else "run"
    become(name, file, options, backend, head_order=head_order, no_fallback=no_fallback)

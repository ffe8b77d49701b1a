"""What ``run``, ``serve`` and ``bench`` share: the choice of a build, and becoming upstream's program."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

__all__ = ["BACKENDS", "backend_option", "become", "fallback_option", "order_option"]

#: ``ggufrope.runtime.toolkits.BACKENDS`` by name; a test compares them. Listed here so that --help imports little.
BACKENDS = click.Choice(["cpu", "cuda", "hip", "metal", "vulkan"])
backend_option = click.option(
    "--backend",
    type=BACKENDS,
    help="Which build to use; default: GGUFROPE_BACKEND, else the first built of cuda, hip, metal, vulkan, cpu.",
)


order_option = click.option(
    "--head-order",
    type=click.Choice(["static", "per-prompt", "per-prompt-rank"]),
    help="Ms-PoE: how the file's ratios are assigned to heads; default: as the file says.",
)

fallback_option = click.option(
    "--no-fallback",
    is_flag=True,
    help="Fail where RoPE with per-head factors would run on another device than its layer, which is slower.",
)


def become(
    name: str,
    file: Path,
    options: tuple[str, ...],
    backend: str | None,
    *,
    no_fallback: bool,
    head_order: str | None = None,
) -> NoReturn:
    """Turn this process into upstream's program; see ``ggufrope.runtime.programs``."""
    from ggufrope.modelfile.model_file import ModelFile
    from ggufrope.runtime.locate import outdated
    from ggufrope.runtime.programs import command_line, refuse_fallback, start

    command = command_line(name, ModelFile.open(file), options, backend=backend, head_order=head_order)
    if backend is None and (note := outdated()):
        click.echo(note, err=True)
    if no_fallback:
        refuse_fallback()
    raise SystemExit(start(command))

"""``ggufrope runtime build|info|path``: the patched llama.cpp."""

from __future__ import annotations

import json

import click

_BACKENDS = click.Choice(["cpu", "metal", "cuda", "hip", "vulkan"])
_backend = click.option("--backend", type=_BACKENDS, help="Default: metal on macOS, else cpu.")
_stock = click.option("--stock", is_flag=True, help="The same llama.cpp without our patches, to compare with.")


@click.group()
def command() -> None:
    """Build, describe or find the patched llama.cpp."""


@command.command()
@_backend
@_stock
@click.option("--with-programs", is_flag=True, help="With --stock: also llama-bench, llama-completion, llama-quantize.")
@click.option("--with-tests", is_flag=True, help="Also upstream's test-backend-ops and test-llama-archs.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Compilers at once. Default: one for each processor.")
def build(backend: str | None, stock: bool, with_programs: bool, with_tests: bool, jobs: int | None) -> None:
    """Download, patch and compile llama.cpp into the cache; nothing happens when it is there."""
    from ggufrope.cli._progress import ProgressLine
    from ggufrope.runtime.build import BuildSpec
    from ggufrope.runtime.build import build as make
    from ggufrope.runtime.locate import default_backend

    spec = BuildSpec(backend or default_backend(), stock=stock, with_programs=with_programs, with_tests=with_tests)
    with ProgressLine() as progress:
        click.echo(make(spec, jobs=jobs, progress=progress).path)
    if spec.backend == "metal" and not stock:
        click.echo("Metal's patched rope kernels never ran on a Mac: check with `ggufrope validate`.", err=True)


@command.command()
@_backend
@_stock
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info(backend: str | None, stock: bool, as_json: bool) -> None:
    """Describe the build in use."""
    from dataclasses import asdict

    from ggufrope.runtime.locate import locate

    facts = asdict(locate(backend, stock=stock))
    facts["path"] = str(facts["path"])
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        click.echo(f"{name:<9} {' '.join(value) if isinstance(value, tuple) else value or '-'}")


@command.command()
@_backend
@_stock
def path(backend: str | None, stock: bool) -> None:
    """Print the directory of the libraries and programs."""
    from ggufrope.runtime.locate import locate

    click.echo(locate(backend, stock=stock).path)

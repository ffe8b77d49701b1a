"""``ggufrope runtime build|check|info|path``: the patched llama.cpp."""

from __future__ import annotations

import json
from typing import Any

import click

from ggufrope.cli._program import BACKENDS, backend_option

_stock = click.option("--stock", is_flag=True, help="The same llama.cpp without the patches, for comparison.")


@click.group()
def command() -> None:
    """Build, describe or find the patched llama.cpp."""


@command.command()
@click.option("--backend", type=BACKENDS, help="Backend to build for; default: metal on macOS, else cpu.")
@click.option(
    "--gpu-arch",
    "architectures",
    multiple=True,
    metavar="A",
    help="GPU architecture: 86 or 8.6 for cuda, gfx1100 for hip; can be repeated; default: those of the GPUs found.",
)
@_stock
@click.option("--with-programs", is_flag=True, help="With --stock: also llama-bench, llama-completion, llama-quantize.")
@click.option("--with-tests", is_flag=True, help="Also upstream's test-backend-ops and test-llama-archs.")
@click.option(
    "-D",
    "defines",
    multiple=True,
    metavar="NAME=VALUE",
    help="Passed to cmake; such a build is used only through GGUFROPE_RUNTIME.",
)
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Parallel compile jobs; default: one per processor.")
def build(backend: str | None, jobs: int | None, **options: Any) -> None:
    """Download, patch and compile llama.cpp into the cache, unless it is there already.

    cuda, hip and vulkan need the GPU's toolkit; if it is missing, the error says what to install.
    """
    from ggufrope.cli._progress import ProgressLine
    from ggufrope.runtime.build import BuildSpec
    from ggufrope.runtime.build import build as make
    from ggufrope.runtime.locate import default_backend

    spec = BuildSpec(backend or default_backend(), **options)
    with ProgressLine() as progress:
        runtime = make(spec, jobs=jobs, progress=progress, notify=lambda note: click.echo(note, err=True))
    click.echo(runtime.path)


@command.command()
@backend_option
@_stock
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/backends.md.")
def info(backend: str | None, stock: bool, as_json: bool) -> None:
    """Describe the build in use and the devices it finds."""
    from dataclasses import asdict

    from ggufrope.runtime.devices import devices
    from ggufrope.runtime.locate import locate, outdated

    runtime = locate(backend, stock=stock)
    facts = asdict(runtime) | {"path": str(runtime.path)}
    present = devices(runtime)
    if as_json:
        click.echo(json.dumps(facts | {"devices": [asdict(device) for device in present]}, indent=2))
        return
    for name, value in facts.items():
        if value or name not in ("toolkit", "architectures", "defines"):
            click.echo(f"{name:<13} {' '.join(value) if isinstance(value, tuple) else value or '-'}")
    for device in present:
        click.echo(f"device        {device}")
    if runtime.backend not in ("cpu", "unknown") and all(device.kind == "cpu" for device in present):
        click.echo(f"no {runtime.backend} device was found: models run on the CPU", err=True)
    if backend is None and not stock and (note := outdated()):
        click.echo(note, err=True)


@command.command()
@backend_option
@click.option("--device", "names", multiple=True, metavar="NAME", help="Only this one, such as CUDA0; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/backends.md.")
def check(backend: str | None, names: tuple[str, ...], as_json: bool) -> None:
    """Test ropes with a row of factors for each head, on every device, against double precision.

    Exit code 1 if a device is wrong, refuses what it takes with one row, or no longer fuses ops. Send the table when
    you report that.
    """
    from dataclasses import asdict

    from ggufrope.errors import CheckFailed
    from ggufrope.runtime.device_check import check_devices
    from ggufrope.runtime.locate import locate

    runtime = locate(backend)
    devices, said = check_devices(runtime, names)
    if as_json:
        facts = asdict(runtime) | {"path": str(runtime.path), "said": said}
        click.echo(json.dumps(facts | {"devices": [asdict(device) for device in devices]}, indent=2))
    else:
        build = (
            f"llama.cpp {runtime.pin}",
            f"patches {runtime.patches[:12] or 'unknown'}",
            runtime.backend,
            runtime.toolkit,
            runtime.compiler,
        )
        click.echo("\n".join([", ".join(filter(None, build)), *(f"    {line}" for line in said)]))
        for device in devices:
            click.echo(f"\n{device.table()}")
    if bad := [device.name for device in devices if not device.good]:
        raise CheckFailed(f"{', '.join(bad)}: not every case passed")


@command.command()
@backend_option
@_stock
def path(backend: str | None, stock: bool) -> None:
    """Print the directory of the libraries and programs."""
    from ggufrope.runtime.locate import locate

    click.echo(locate(backend, stock=stock).path)

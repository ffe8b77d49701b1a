"""``ggufrope inspect FILE``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/inspect.md.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw wavelength against pair, before and after, as PNG.")
def command(file: Path, as_json: bool, plot: Path | None) -> None:
    """Show FILE's RoPE scaling and frequencies, and which runtimes apply them."""
    import json

    from ggufrope.cli._inspect_text import lines
    from ggufrope.inspection.summary import Inspection
    from ggufrope.modelfile.model_file import ModelFile

    inspection = Inspection(ModelFile.open(file))
    click.echo(json.dumps(inspection.as_json(), indent=2) if as_json else "\n".join(lines(inspection)))
    if plot:
        from ggufrope.inspection.wavelengths import plot_wavelengths

        click.echo(f"drew {plot_wavelengths(inspection, plot)}", err=True)

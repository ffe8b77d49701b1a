"""``ggufrope strip FILE -o OUT``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The GGUF to write.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(file: Path, output: Path, overwrite: bool) -> None:
    """Undo a conversion: restore the source of FILE."""
    from ggufrope.conversion import check_output
    from ggufrope.convert import strip

    check_output(output, file, overwrite)
    if strip(file, output):
        click.echo(f"wrote {output}: the source, byte for byte")
    else:
        click.echo(f"wrote {output}: the source's rope keys (another program changed the file after its conversion)")

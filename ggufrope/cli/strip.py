"""``ggufrope strip FILE -o OUT``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The GGUF to write.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--in-place", is_flag=True, help="Restore FILE itself; an interrupted edit is undone.")
@click.option("--force", is_flag=True, help="Edit in place even if FILE is in use or has hard links.")
def command(file: Path, output: Path | None, overwrite: bool, in_place: bool, force: bool) -> None:
    """Undo a conversion: restore the source of FILE."""
    from ggufrope.cli._progress import bytes_progress
    from ggufrope.cli._show import saved_text
    from ggufrope.convert.conversion import strip, strip_in_place
    from ggufrope.files import check_output
    from ggufrope.modelfile.model_file import ModelFile

    if in_place == (output is not None):
        raise click.UsageError("give either -o OUT or --in-place")
    if output is None:
        saved = strip_in_place(ModelFile.open(file), force=force, progress=bytes_progress())
    else:
        check_output(output, [file], overwrite=overwrite)
        saved = strip(ModelFile.open(file), output, bytes_progress())
    what = "the source, byte for byte"
    if not saved.restored:
        what = "the source's rope keys (another program changed the file after its conversion)"
    click.echo(f"{saved_text(saved)}: {what}")

"""``ggufrope quantize IN OUT TYPE``: llama-quantize, and a check that our keys arrived."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("kind", metavar="TYPE")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--imatrix", type=click.Path(path_type=Path), help="Importance matrix for the low-bit types.")
def command(
    source: Path, output: Path, kind: str, options: tuple[str, ...], overwrite: bool, imatrix: Path | None
) -> None:
    """Quantize IN to OUT as TYPE (Q8_0, Q4_K_M, ...), keeping every ggufrope.* key byte for byte.

    Further options of llama-quantize go after --.
    """
    from ggufrope.cli._progress import ProgressLine
    from ggufrope.files import check_output
    from ggufrope.runtime.programs import quantize

    check_output(output, [source], overwrite=overwrite)
    with ProgressLine() as progress:
        quantize(source, output, kind, imatrix=imatrix, options=options, progress=progress)
    click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {kind}")

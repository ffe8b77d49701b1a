"""``ggufrope validate FILE --reference HF_DIR``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--reference", required=True, metavar="HF_DIR", type=click.Path(path_type=Path), help="What FILE was made from."
)
@click.option("--length", type=int, metavar="N", help="Positions to compare; default: its context, at most 1024.")
@click.option("--text", type=click.Path(path_type=Path), help="Text to read; default: pseudo-random tokens.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1e9, min_open=True),
    metavar="X",
    help="Allowed |Δ log p|; default: by the type of the weights.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/validation.md.")
def command(
    file: Path, reference: Path, length: int | None, text: Path | None, tolerance: float | None, as_json: bool
) -> None:
    """Compare FILE on the patched runtime with a PyTorch reference, at every position.

    Exit code 1 when log-probabilities are further apart than the tolerance.
    """
    import json

    from ggufrope.cli._progress import ProgressLine
    from ggufrope.validate import require, validate

    with ProgressLine() as line:
        result = validate(
            file,
            reference,
            length=length,
            text=text,
            tolerance=tolerance,
            progress=lambda done, total: line(done, total, "positions"),
        )
    click.echo(json.dumps(result.as_json(), indent=2) if as_json else "\n".join(result.lines()))
    require(result)

"""``ggufrope calibrate FILE --text T -o heads.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--text",
    "texts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="UTF-8 text to cut prompts from; can be repeated.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The JSON file to write.")
@click.option(
    "--lengths", metavar="N,N,...", help="Prompt lengths in tokens; default: 1/4, 1/2 and all of the context."
)
@click.option("--prompts", type=int, default=8, show_default=True, help="Number of prompts of each length.")
@click.option(
    "--order", default="code", show_default=True, help="Head order: code, rank, sequential, reverse or random:SEED."
)
@click.option(
    "--spacing",
    type=click.Choice(["code", "paper"]),
    default="code",
    show_default=True,
    help="Steps between ratios: i/H (code) or i/(H-1) (paper).",
)
@click.option("--min-ratio", type=float, default=1.2, show_default=True, help="Smallest ratio.")
@click.option("--max-ratio", type=float, default=1.8, show_default=True, help="Largest ratio.")
@click.option(
    "--first-layer", type=int, default=2, show_default=True, help="First layer that gets ratios, counted from 0."
)
@click.option(
    "--group",
    type=click.Choice(["mean", "max"]),
    default="mean",
    show_default=True,
    help="Score of a query group, from those of its heads.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output even if it is of another model or text.")
def command(file: Path, texts: tuple[Path, ...], output: Path, lengths: str | None, **options: Any) -> None:
    """Measure how position-aware each head of FILE is, and write Ms-PoE's head order and ratios.

    The result is for `ggufrope convert --method ms-poe --head-ratios heads.json`. An interrupted run resumes where it
    stopped; another --order reuses the scores.
    """
    from ggufrope.calibrate import CalibrateRequest, Ordering, calibrate
    from ggufrope.cli._progress import ProgressLine
    from ggufrope.cli._show import show_calibration
    from ggufrope.methods.parameter_files import parse_counts
    from ggufrope.modelfile.model_file import ModelFile

    prompts, overwrite = options.pop("prompts"), options.pop("overwrite")
    prompt_lengths = parse_counts(lengths, "--lengths") if lengths else ()
    request = CalibrateRequest(
        ModelFile.open(file), texts, output, prompt_lengths, prompts, Ordering(**options), overwrite
    )
    with ProgressLine() as line:
        done = calibrate(request, line)
    show_calibration(done, output)

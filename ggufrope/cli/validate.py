"""``ggufrope validate FILE --reference REF``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    required=True,
    metavar="REF",
    type=click.Path(path_type=Path),
    help="What FILE was made from: a Hugging Face directory, or the GGUF before it was quantized.",
)
@click.option("--length", type=int, metavar="N", help="Positions to compare; default: its context, at most 1024.")
@click.option("--text", type=click.Path(path_type=Path), help="Text to read; default: pseudo-random tokens.")
@click.option("--kv-type", default="f32", metavar="TYPE", help="FILE's KV cache: f32 (default), f16, q8_0 or q4_0.")
@click.option(
    "--flash-attn",
    type=click.Choice(["on", "off"]),
    help="On FILE's side; default: on with a quantized --kv-type, which needs it, else off.",
)
@click.option("--any-method", is_flag=True, help="Let a GGUF REF rotate differently: compare methods.")
@click.option(
    "--as-stored", is_flag=True, help="Give PyTorch FILE's own quantized matrices: what they cost is left out."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1e9, min_open=True),
    metavar="X",
    help="Allowed |Δ log p|; default: by weights, KV cache and attention.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/validation.md.")
def command(file: Path, reference: Path, flash_attn: str | None, as_json: bool, **options: Any) -> None:
    """Compare FILE on the patched runtime with a reference, at every position.

    Exit code 1 when log-probabilities are further apart than the tolerance.
    """
    import json

    from ggufrope.cli._progress import ProgressLine
    from ggufrope.modelfile.model_file import ModelFile
    from ggufrope.validate import require, validate

    flash = None if flash_attn is None else flash_attn == "on"
    with ProgressLine() as line:
        show = lambda done, total: line(done, total, "positions")  # noqa: E731  # closes over line
        result = validate(ModelFile.open(file), reference, flash_attn=flash, progress=show, **options)
    click.echo(json.dumps(result.as_json(), indent=2) if as_json else "\n".join(result.lines()))
    require(result)

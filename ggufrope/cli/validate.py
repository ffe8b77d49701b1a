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
    help="The model that FILE was made from: a Hugging Face directory, or the GGUF before quantization.",
)
@click.option(
    "--length", type=int, metavar="N", help="Number of positions to compare; default: FILE's context, at most 1024."
)
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 text to evaluate; default: pseudo-random tokens.")
@click.option(
    "--kv-type", default="f32", metavar="TYPE", help="Type of FILE's KV cache: f32 (default), f16, q8_0 or q4_0."
)
@click.option(
    "--flash-attn",
    type=click.Choice(["on", "off"]),
    help="Flash attention for FILE; default: on with a quantized --kv-type, which needs it, else off.",
)
@click.option("--any-method", is_flag=True, help="Allow a GGUF REF that rotates differently: compare methods.")
@click.option(
    "--as-stored",
    is_flag=True,
    help="Use FILE's quantized matrices in PyTorch, too, so that quantization error is not counted.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1e9, min_open=True),
    metavar="X",
    help="Largest allowed |Δ log p|; default: by types of weights and KV cache, and attention.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/validation.md.")
def command(file: Path, reference: Path, flash_attn: str | None, as_json: bool, **options: Any) -> None:
    """Compare FILE's log-probabilities on the patched runtime with a reference, at every position.

    Exit code 1 if they differ by more than the tolerance.
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

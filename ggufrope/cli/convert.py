"""``ggufrope convert SRC -o OUT --method M``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ggufrope.cli._method_options import method_options, method_params


@click.command()
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The GGUF to write.")
@click.option("-m", "--method", help="See `ggufrope methods`. Default for a HF directory: what config.json says.")
@click.option("--context", type=click.IntRange(1, 2**31 - 1), help="Target context in tokens; gives the factor.")
@method_options
@click.option(
    "--calibrate",
    "texts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="TEXT",
    help="ms-poe: measure the head order on prompts cut from TEXT first; can be repeated.",
)
@click.option("--in-place", is_flag=True, help="Edit SRC itself, in a fraction of a second; a crash undoes the edit.")
@click.option("--force", is_flag=True, help="Edit in place although SRC is in use or has hard links.")
@click.option("--outtype", type=click.Choice(["auto", "f32", "f16", "bf16", "q8_0"]), help="HF directories only.")
@click.option("--require-patched", is_flag=True, help="Make stock llama.cpp refuse the file.")
@click.option("--dry-run", is_flag=True, help="Print the keys that would change; write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(source: Path, output: Path | None, method: str | None, overwrite: bool, **options: Any) -> None:
    """Write a RoPE-scaling method into a GGUF, or convert a Hugging Face directory with it.

    SRC stays as it is, unless --in-place is given. A file that ggufrope converted is converted again from its recorded
    original. Of a split model give the first shard.
    """
    from ggufrope.cli._progress import ProgressLine, bytes_progress
    from ggufrope.convert.request import ConvertRequest, carry_out

    request = ConvertRequest(
        source,
        output,
        method,
        method_params(options),
        **{k: options[k] for k in ("context", "outtype", "require_patched", "dry_run", "in_place", "force")},
        overwrite=overwrite,
        heads=Path(options["head_ratios"]) if options["head_ratios"] else None,
        texts=options["texts"],
    )
    with ProgressLine() as line:
        done = carry_out(request, bytes_progress(), line)

    from ggufrope.cli._show import show_conversion  # what it needs is loaded by now

    show_conversion(request, done)

"""``ggufrope convert SRC -o OUT --method M``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggufrope.cli._method_options import method_options, method_params, option_beside
from ggufrope.cli._option_groups import GroupedCommand, option_group

if TYPE_CHECKING:
    from ggufrope.cli._progress import ProgressLine
    from ggufrope.convert.pipeline import Converted, ConvertRequest

_method = option_group("Method")
_output = option_group("Output")


@click.command(cls=GroupedCommand)
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@_method(
    "-m",
    "--method",
    metavar="NAME",
    help="One of `ggufrope methods`. Default for a Hugging Face directory: the method in its config.json.",
)
@_method(
    "--context",
    type=click.IntRange(1, 2**31 - 1),
    metavar="N",
    help="Target context in tokens; default: --factor times the original context.",
)
@_output("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help="The GGUF to write.")
@_output("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@_output("--in-place", is_flag=True, help="Edit SRC itself, in a fraction of a second; an interrupted edit is undone.")
@_output("--force", is_flag=True, help="Edit in place even if SRC is in use or has hard links.")
@_output("--dry-run", is_flag=True, help="Print the keys that would change; write nothing.")
@_output("--require-patched", is_flag=True, help="Make stock llama.cpp refuse the file.")
@_output(
    "--outtype",
    type=click.Choice(["auto", "f32", "f16", "bf16", "q8_0"]),
    help="Type of the weights, for a Hugging Face directory; default: auto, the type that it stores.",
)
@_output(
    "--read-config-as",
    type=click.Choice(["transformers", "vllm"]),
    default="transformers",
    help="Whose reading of config.json counts where engines differ; default: transformers.",
)
@_output(
    "--converter-option",
    "converter_options",
    multiple=True,
    metavar="OPTION",
    help="An option for llama.cpp's converter of Hugging Face directories, such as =--no-mtp; can be repeated.",
)
@method_options
@option_beside("head_ratios")(
    "--calibrate",
    "texts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="TEXT",
    help="Measure the head order first, on prompts cut from TEXT, and check what the result does to the model; can be "
    "repeated.",
)
@option_beside("head_ratios")(
    "--no-check", is_flag=True, help="Omit that check: a minute at most of loss and copying, before and after."
)
def command(source: Path, output: Path | None, method: str | None, overwrite: bool, **options: Any) -> None:
    """Write a RoPE-scaling method into a GGUF, or convert a Hugging Face directory with it.

    SRC is not changed unless --in-place is given. A file that ggufrope converted before is converted again from the
    original that is recorded in it. For a split model give the first shard.
    """
    from ggufrope.cli._progress import ProgressLine, bytes_progress
    from ggufrope.convert.pipeline import ConvertRequest, carry_out

    request = ConvertRequest(
        source,
        output,
        method,
        method_params(options),
        **{
            k: options[k] for k in ("context", "outtype", "require_patched", "dry_run", "in_place", "force", "no_check")
        },
        overwrite=overwrite,
        heads=options["head_ratios"],
        table=options["factor_table"],
        texts=options["texts"],
        converter_options=options["converter_options"],
        read_config_as=options["read_config_as"],
    )
    with ProgressLine() as line:
        done = carry_out(request, bytes_progress(), line)
        checked = _checked(request, done, line)

    from ggufrope.cli._show import show_conversion  # what it needs is loaded by now

    for said in checked:
        click.echo(said)
    show_conversion(request, done)


def _checked(request: ConvertRequest, done: Converted, line: ProgressLine) -> list[str]:
    if not request.calibrated or request.no_check:  # nothing to say, and an edit in place has no time for imports
        return []
    from ggufrope.check import check_conversion
    from ggufrope.cli._check_text import check_text

    return check_text(check_conversion(request, done, line))

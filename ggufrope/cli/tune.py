"""``ggufrope tune FILE --for TASK -o OUT.gguf``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ggufrope.cli._option_groups import GroupedCommand, option_group

_FILE = click.Path(path_type=Path)
_what = option_group("What for")
_texts = option_group("Texts")
_search = option_group("Search")
_report = option_group("Report")
_output = option_group("Output")


@click.command(cls=GroupedCommand)
@click.argument("file", type=_FILE)
@_what(
    "--for",
    "goals",
    multiple=True,
    metavar="TASK[:WEIGHT]",
    help="A task to tune for, such as kv-retrieval, niah, mdqa or ppl; can be repeated. `ggufrope eval --list-tasks` "
    "shows all.",
)
@_what(
    "--length",
    "lengths",
    multiple=True,
    type=int,
    metavar="N",
    help="Tokens of the tasks' texts; can be repeated: texts of mixed lengths. Default: the context, 4096 at most.",
)
@_what(
    "--from",
    "start",
    metavar="METHOD",
    help="For lengths beyond the context: the method to start from, such as yarn or ntk.",
)
@_what("--depths", metavar="D,D,...", default="0,0.25,0.5,0.75,1", show_default=True, help="Positions of the answers.")
@_what("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of those tasks that have it.")
@_texts(
    "--text",
    "texts",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="Plain UTF-8 text, whose loss must not rise; required, can be repeated.",
)
@_texts("--data", type=_FILE, metavar="FILE", help="Data of the tasks, as `ggufrope eval --data` takes it.")
@_texts("--haystack", type=_FILE, metavar="FILE", help="UTF-8 text to hide needles in; default: generated sentences.")
@_texts("--wording", type=_FILE, metavar="FILE", help="JSON file with other wordings of needles and questions.")
@_texts(
    "--chat-template",
    metavar="FILE|default",
    help="Chat template for every prompt; without this option the model's own, if it has one.",
)
@_texts("--no-chat-template", is_flag=True, help="Use no chat template.")
@_search(
    "--space",
    "spaces",
    multiple=True,
    default=("full",),
    show_default=True,
    metavar="NAME",
    help="Which factors are tied: pairs, layers, heads, layer-pairs, full, or a curve; can be repeated.",
)
@_search(
    "--engine",
    type=click.Choice(["gradient", "blind", "coordinate"]),
    help="Default: gradient where that can be, else blind; coordinate: one number after the other.",
)
@_search("--steps", type=int, metavar="N", help="Steps in each space, at most.")
@_search("--minutes", type=float, metavar="M", help="Minutes in each space, at most.")
@_search("--step-texts", type=int, default=1, show_default=True, metavar="N", help="Texts of a step.")
@_search(
    "--select-every",
    type=int,
    default=10,
    show_default=True,
    metavar="N",
    help="Steps from one reading of the selection split to the next.",
)
@_search(
    "--patience",
    type=int,
    default=5,
    show_default=True,
    metavar="N",
    help="Readings without a better candidate, after which a space is left.",
)
@_search("--allow", type=float, default=0.01, show_default=True, help="Rise of the plain-text loss that is allowed.")
@_search("--sliding", is_flag=True, help="Also tune layers with a sliding window.")
@_search("--seed", type=int, default=0, show_default=True, metavar="N", help="Random seed.")
@_search("--threads", type=int, metavar="N", help="CPU threads; default: as many as there are cores.")
@_search("--device", metavar="NAME", help="Of the gradient engine: cpu, cuda or mps; default: the fastest there is.")
@_search("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Of the gradient engine; default: float32.")
@_report(
    "--report-texts",
    type=int,
    default=40,
    show_default=True,
    metavar="N",
    help="Texts of the report for each task and length.",
)
@_report(
    "--select-texts",
    type=int,
    default=8,
    show_default=True,
    metavar="N",
    help="Texts of the selection split for each task and length.",
)
@_report(
    "--also",
    multiple=True,
    metavar="TASK",
    help="A task to report beside those tuned for; can be repeated. Default: niah and kv-retrieval.",
)
@_output("-o", "--output", type=_FILE, metavar="OUT.gguf", help="File to write, if the gain is proven.")
@_output("--table", type=_FILE, metavar="OUT.npz", help="Also, or only, write the table, for `convert --method table`.")
@_output("--json", "as_json", is_flag=True, help="One JSON object with the whole run, documented in docs/tune.md.")
@_output("--write-anyway", is_flag=True, help="Write the best candidate even if no gain is proven.")
@_output("--overwrite", is_flag=True, help="Replace outputs, and a journal of another request.")
def command(file: Path, as_json: bool, **options: Any) -> None:
    """Learn the frequency table that helps FILE at a task, prove it on texts it has not seen, and write it.

    Weights stay as they are. Nothing is written unless the gain's 95% interval is above 0 and the loss on plain text
    stays within --allow; else the table says why, and the exit code is 1. An interrupted run resumes where it stopped.
    """
    import json

    from ggufrope.cli._progress import ProgressLine
    from ggufrope.cli._tune_options import make_tune_request
    from ggufrope.cli._tune_text import TuneLines, tuned_lines
    from ggufrope.errors import CheckFailed
    from ggufrope.tune.run_tools import RunTools
    from ggufrope.tune.tuning import tune

    request = make_tune_request(file, options)
    with ProgressLine() as line:
        done = tune(request, RunTools(), TuneLines(line, request.steps).progress)
    click.echo(json.dumps(done.record, indent=1) if as_json else "\n".join(tuned_lines(done)))
    if not done.written:
        raise CheckFailed(f"{file}: nothing better was found: {done.reason}")

"""``ggufrope eval FILE... --task T``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ggufrope.cli._eval_options import eval_options
from ggufrope.cli._option_groups import GroupedCommand, option_group

_output = option_group("Output")


@click.command(cls=GroupedCommand)
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
@eval_options
@_output("--json", "as_json", is_flag=True, help="One JSON object with all cells, documented in docs/eval.md.")
@_output("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Directory to keep results.jsonl in.")
def command(files: tuple[Path, ...], as_json: bool, output: Path | None, list_tasks: bool, **options: Any) -> None:
    """Run a long-context benchmark on GGUF files: one task, by length, depth and type of the KV cache.

    Each cell (file, type, length) is written when it is done; a second run skips those that are there.
    """
    import json
    from contextlib import nullcontext

    from ggufrope.cli._eval_options import make_order
    from ggufrope.cli._eval_text import Watch, table, task_list
    from ggufrope.cli._load import load_note

    if list_tasks:
        click.echo("\n".join(task_list()))
        return
    from ggufrope.evals.grid import plan
    from ggufrope.evals.machine import runtime_facts
    from ggufrope.evals.result_line import to_json
    from ggufrope.evals.runner import run
    from ggufrope.evals.store import Store
    from ggufrope.last_words import note

    runtime = runtime_facts(threads=options["threads"], flash_attn=None)
    grid = plan(make_order(files, options), runtime)
    with Store(output) if output else nullcontext() as store:
        if store and store.repaired:
            click.echo(store.repaired, err=True)
        if store:
            note("kept", f"finished cells are in {store.path}, and the same command goes on from there")
        watch = Watch(grid, store.results if store else {}, load_note(options["threads"]))
        try:
            for done in run(grid, runtime, store, watch.progress):
                watch.finished(done)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(watch.stopped(store.path if store else None)) from None
    if as_json:
        click.echo(json.dumps({"schema": 1, "results": [to_json(r) for r in watch.results]}, indent=2))
    else:
        click.echo("\n".join(table(watch.results)))

"""``ggufrope plan FILE --context N``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--context", type=int, required=True, metavar="N", help="Target context in tokens.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/plan.md.")
def command(file: Path, context: int, as_json: bool) -> None:
    """List the methods that extend FILE to N tokens, with known results for each, and the memory needed.

    Results are quoted, never estimated: from publications, and from this project's own measurements.
    """
    import json

    from ggufrope.cli._plan_text import lines
    from ggufrope.modelfile.model_file import ModelFile
    from ggufrope.planning import plan_context

    plan = plan_context(ModelFile.open(file), context)
    click.echo(json.dumps(plan.as_json(), indent=2) if as_json else "\n".join(lines(plan)))

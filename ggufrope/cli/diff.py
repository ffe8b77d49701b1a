"""``ggufrope diff A B``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, documented in docs/files.md.")
def command(a: Path, b: Path, as_json: bool) -> int:
    """Show the keys and tensors in which two GGUF files differ; exit code 1 if there are any.

    Weights, the order of keys and padding are not compared. For a split model give the first shard.
    """
    import json

    from ggufrope.cli._show import side_text
    from ggufrope.gguf import differences
    from ggufrope.modelfile.model_file import ModelFile

    different = differences(ModelFile.open(a).headers, ModelFile.open(b).headers)
    if as_json:
        facts = {"a": str(a), "b": str(b), "equal": not different, "differences": [d.as_json() for d in different]}
        click.echo(json.dumps(facts, indent=2))
    else:
        for d in different:
            click.echo(f"{d.kind} {d.name}: {side_text(d.a)} → {side_text(d.b)}")
    return int(bool(different))

"""``ggufrope methods``."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(as_json: bool) -> None:
    """List the methods and their parameters."""
    import json

    from ggufrope.methods import METHODS, composing_methods, flag, parameters

    if as_json:
        listed = {
            name: {
                "title": cls.title,
                "paper": cls.paper,
                "parameters": {p.name: p.metadata["help"] for p in parameters(cls)},
            }
            for name, cls in METHODS.items()
        }
        click.echo(json.dumps(listed, indent=2))
        return
    for name, cls in METHODS.items():
        click.echo(f"{name:<9} {cls.title} ({cls.paper})")
        click.echo(f"          {(cls.__doc__ or '').splitlines()[0]}")
        if options := "  ".join(flag(p.name) for p in parameters(cls)):
            click.echo(click.wrap_text(options, 110, "          ", "          "))
    for cls in composing_methods():
        examples = ", ".join(f"{cls.name}+{base}" for base in cls.traits.suggested_bases[:2])
        click.echo(f"\n{cls.name}+BASE puts {cls.traits.puts_on_top} on top of a base method: {examples}, ...")

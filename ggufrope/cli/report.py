"""``ggufrope report RESULTS... -o report.html``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("results", metavar="RESULTS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write, .html or .md; can be repeated.",
)
@click.option("--title", default="Long-context evaluation", show_default=True, help="Title of the report.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
def command(results: tuple[Path, ...], outputs: tuple[Path, ...], title: str, overwrite: bool) -> None:
    """Write a report on results of `ggufrope eval`: heat maps, curves, differences with intervals, settings.

    RESULTS are directories that `eval -o` wrote to, files of results, or runs of `ggufrope tune` (OUT.gguf.tune). The
    report is a single file, without scripts or external resources.
    """
    from ggufrope.report import write_report
    from ggufrope.text import counted, size

    done = write_report(results, outputs, title, overwrite=overwrite)
    for note in done.study.notes:
        click.echo(f"note: {note}")
    files = len({e.file for group in done.study.groups for e in group.entries})
    made_of = f"{counted(len(done.study.results), 'result')} of {counted(files, 'file')}"
    for path, n in done.outputs:
        click.echo(f"wrote {path}: {made_of}, {size(n)}")

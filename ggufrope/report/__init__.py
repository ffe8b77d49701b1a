"""Results of ``ggufrope eval`` as a page for people: HTML that needs nothing else, or Markdown.

``study`` puts results in order, ``document`` says what the report consists of, ``page`` and ``markdown`` write it down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ggufrope.errors import UsageError
from ggufrope.evals.store import NAME
from ggufrope.files import check_output, write_bytes
from ggufrope.report.blocks import Document
from ggufrope.report.document import document
from ggufrope.report.markdown import markdown
from ggufrope.report.page import page
from ggufrope.report.study import Study, study
from ggufrope.report.tuning_run import RUN, read_runs, runs_section

__all__ = ["FORMATS", "Written", "write_report"]

#: By suffix.
FORMATS: dict[str, Callable[[Document, str], str]] = {
    ".html": page,
    ".htm": page,
    ".md": markdown,
    ".markdown": markdown,
}


@dataclass(frozen=True, slots=True)
class Written:
    """A finished report: ``outputs`` with their sizes in bytes."""

    study: Study
    outputs: tuple[tuple[Path, int], ...]


def write_report(paths: Sequence[Path], outputs: Sequence[Path], title: str, *, overwrite: bool = False) -> Written:
    """Read results and write a report of them.

    Args:
        paths: files of results, directories with a ``results.jsonl``, and runs of ``tune``.
        outputs: what to write, each in the format that its suffix names.
        title: of the report.
        overwrite: replace outputs that exist.

    Raises:
        UsageError: no output, one twice, or a suffix that names no format.
        InputError: results that cannot be used; see ``study``.
        OutputError: an output exists, or cannot be written. Existing ones are as they were.
    """
    for output in outputs:
        _check(output, outputs, paths, overwrite)
    if not outputs:
        raise UsageError("no output given: add -o report.html, or -o report.md")
    runs, others = read_runs(paths)
    measured = study(others, [result for run in runs for result in run.results])
    made = document(measured, title)
    if runs:
        made = replace(made, sections=(runs_section(runs), *made.sections))
    versions = sorted({r.ggufrope for r in measured.results})
    made_by = f"Made by ggufrope report from {len(measured.results)} results of ggufrope {', '.join(versions)}."
    texts = [(output, FORMATS[output.suffix.lower()](made, made_by).encode("utf-8")) for output in outputs]
    for output, data in texts:
        write_bytes(output, data)
    return Written(measured, tuple((output, len(data)) for output, data in texts))


def _check(output: Path, outputs: Sequence[Path], paths: Sequence[Path], overwrite: bool) -> None:
    if output.suffix.lower() not in FORMATS:
        problem = f"'{output.suffix}' names no format" if output.suffix else "it has no suffix to name a format"
        raise UsageError(f"{output}: {problem}; end the name in .html or .md")
    if sum(other.absolute() == output.absolute() for other in outputs) > 1:
        raise UsageError(f"{output}: is given twice; omit one")
    reads = [path / name for path in paths for name in (NAME, RUN) if path.is_dir()]
    check_output(output, [*reads, *(path for path in paths if not path.is_dir())], overwrite=overwrite)

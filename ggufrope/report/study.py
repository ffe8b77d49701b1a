"""Results put in order: groups that may be compared, in each the files, in each the lengths."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ggufrope.errors import InputError
from ggufrope.evals.notes import NoteCode
from ggufrope.evals.results import Result
from ggufrope.evals.store import NAME, read_results
from ggufrope.evals.tasks import kinds
from ggufrope.report.blocks import Estimate
from ggufrope.report.entries import Entry, Label, base_name, identity, is_float, make_entries, natural

__all__ = ["Group", "Study", "arrange", "beyond", "beyond_baseline", "estimate", "remarks", "study", "text_of", "texts"]

_LIMIT = "limit"
_ROUNDING = 1e-9  # of a mean of scores


@dataclass(frozen=True, slots=True)
class Group:
    """Results of one task with the same options, depths, seed and baseline: the only ones that may be compared.

    Baselines that are each their own file before quantization count as the same, if they are nothing else besides.

    Attributes:
        title: the task's name, and what tells the group from others of the same task.
        against: the baseline; empty for none.
        unit: of its values: ``score`` or ``nats per token``.
        higher: whether more is better.
        entries: its files with a KV cache type each, in the order of all tables.
        lengths: in tokens, increasing.
        cells: what was measured.
    """

    title: str
    against: str
    unit: str
    higher: bool
    entries: tuple[Entry, ...]
    lengths: tuple[int, ...]
    cells: dict[tuple[Entry, int], Result]

    @property
    def any(self) -> Result:
        """One of its results, for what all have in common."""
        return next(iter(self.cells.values()))

    @property
    def scores(self) -> bool:
        """Whether its values are scores from 0 to 1."""
        return kinds()[self.any.kind].bounds == (0.0, 1.0)

    def get(self, entry: Entry, length: int) -> Estimate | None:
        """The overall value of a cell, if it was measured and is finite."""
        result = self.cells.get((entry, length))
        return None if result is None else estimate(result)

    @property
    def trained(self) -> int | None:
        """The context the models were trained for, if they agree."""
        contexts = {e.trained for e in self.entries}
        return contexts.pop() if len(contexts) == 1 else None


@dataclass(frozen=True, slots=True)
class Study:
    """All groups; ``results`` without repetitions; ``notes`` on inconsistencies."""

    groups: tuple[Group, ...]
    results: tuple[Result, ...]
    notes: tuple[str, ...]


def estimate(result: Result) -> Estimate | None:
    """The overall value of a cell."""
    value = kinds()[result.kind].overall(result)
    return None if value is None else Estimate(value, result.low, result.high, result.n)


def text_of(example: str) -> str:
    """The text that a question is about, by the question's name: ``3`` of ``3/0.5``."""
    return example.partition("/")[0]


def texts(result: Result) -> int:
    """How many texts were read, whatever the number of questions about them."""
    return len({text_of(e.name) for e in result.examples}) if result.examples else result.n


def beyond(result: Result) -> bool:
    """Whether its file was asked for more than the context that it claims."""
    return _read_together(result) > result.file.context


def beyond_baseline(result: Result) -> bool:
    """Whether its baseline was asked for more than the context that the baseline claims."""
    return result.baseline is not None and _read_together(result) > result.baseline.context


def _read_together(result: Result) -> int:
    """Tokens read at once: those of a window, where windows slide over a text."""
    window = result.options.get("window")
    return window if isinstance(window, int) else result.length


def study(paths: Sequence[Path], more: Sequence[Result] = ()) -> Study:
    """Read results and put them in order; see ``arrange``.

    Args:
        paths: files of results, and directories with a ``results.jsonl``.
        more: results from elsewhere.

    Raises:
        InputError: there are none, or a file cannot be read or holds something else.
    """
    measured: list[Result] = list(more)
    cut: list[str] = []
    for path in paths:
        if path.is_dir() and not (path / NAME).is_file():
            raise InputError(f"{path}: holds no {NAME}; give a directory that `ggufrope eval -o` wrote to")
        results, torn = read_results(path)
        cut += [f"{path}: the last line was cut off, its cell is not shown; `ggufrope eval -o` runs it again."] * torn
        for result in results:
            _require_sense(result, path)
        measured += results
    if not measured:
        raise InputError(f"{', '.join(map(str, paths))}: no results; `ggufrope eval FILE... -o results/` makes them")
    return arrange(measured, cut)


def arrange(measured: list[Result], said: Sequence[str] = (), label: Label | None = None) -> Study:
    """Put results in order.

    Args:
        measured: in any order; of what was measured twice, the larger or later counts.
        said: notes on where they come from.
        label: names methods for readers; None: after the method and the parameters that differ.
    """
    results, notes = _without_repetitions(measured)
    entries, doubles = make_entries([(r.file, r.kv_type) for r in results], label)
    groups = tuple(_groups(results, entries))
    ordered = tuple(r for g in groups for r in g.cells.values())
    return Study(groups, ordered, (*said, *notes, *doubles, *_uneven(groups)))


def _require_sense(result: Result, path: Path) -> None:
    """Refuse values that no run can have measured: they cannot be charted."""
    values = [result.score, result.mean, result.low, result.high]
    depths = [d.depth for d in result.by_depth or ()]
    parts = [v for d in result.by_depth or () for v in (d.score, d.low, d.high)] + [
        e.score for e in result.examples or ()
    ]
    means = [v for p in result.by_position or () for v in (p.mean, p.low, p.high)]
    means += [t.mean for t in result.by_text or ()]
    bounds = kinds()[result.kind].bounds
    low, high = bounds[0] - _ROUNDING, bounds[1] + _ROUNDING
    numbers = [v for v in (*values, *parts, *means) if v is not None]
    odd = [v for v in numbers if not (math.isfinite(v) and low <= v <= high)] + [d for d in depths if not 0 <= d <= 1]
    odd += [float(t.n) for t in result.by_text or () if t.n < 1] + _disagreeing(result)
    odd += [float(n) for n in (result.length, result.file.trained, result.file.context) if n < 1]
    if odd:
        raise InputError(
            f"{path}: {result.task} of {base_name(result.file)} at {result.length} tokens has the value {odd[0]:g}, "
            "which nothing measures; restore the file, or omit it"
        )


def _disagreeing(result: Result) -> list[float]:
    """The mean over all texts where it is not that of the texts."""
    texts = [(t.mean, t.n) for t in result.by_text or () if t.mean is not None and t.n > 0]
    if result.mean is None or len(texts) < len(result.by_text or ()) or not texts:
        return []
    mean = sum(value * n for value, n in texts) / sum(n for _, n in texts)
    return [] if math.isclose(mean, result.mean, rel_tol=1e-6, abs_tol=1e-9) else [result.mean]


def _without_repetitions(results: list[Result]) -> tuple[list[Result], list[str]]:
    """One result for each file, KV cache type, task and length: that with the most examples, then the latest."""
    kept: dict[tuple[str, ...], Result] = {}
    notes = []
    for result in results:
        base = base_name(result.baseline) if result.baseline else ""
        key = (*_group_key(result, base), identity(result.file), result.kv_type, str(result.length))
        old = kept.setdefault(key, result)
        if old is result or result == old:
            continue
        kept[key] = max(old, result, key=lambda r: (r.n, r.finished))
        if estimate(old) != estimate(result) or old.n != result.n:
            notes.append(_contradiction(old, result, kept[key]))
    return list(kept.values()), notes


def _contradiction(a: Result, b: Result, kept: Result) -> str:
    values = " and ".join(_said(estimate(r)) + f" (n = {r.n}, {r.finished})" for r in (a, b))
    return (
        f"{base_name(a.file)}, KV cache {a.kv_type}, {a.task} at {a.length} tokens was measured twice: {values}. "
        f"Shown is the one with {'more examples' if a.n != b.n else 'the later time'}, {_said(estimate(kept))}."
    )


def _said(value: Estimate | None) -> str:
    return "nothing finite" if value is None else f"{value.value:.4g}"


def _group_key(result: Result, against: str) -> tuple[str, ...]:
    """What two results must have in common to be compared; not how many texts there were."""
    options = json.dumps({k: v for k, v in result.options.items() if k != _LIMIT}, sort_keys=True)
    baseline = f"{against} {identity(result.baseline)}" if result.baseline and against != _own(result) else against
    return result.kind, result.task, options, _depths(result), str(result.seed), baseline, result.unit or ""


def _depths(result: Result) -> str:
    """A mean over other depths is another measurement."""
    return " ".join(f"{d.depth:g}" for d in result.by_depth or ())


def _own(result: Result) -> str:
    """``its own F16`` where the baseline is the file itself before quantization, as far as results say."""
    base, file = result.baseline, result.file
    same = ("architecture", "method", "params", "context", "trained")
    if base is None or not is_float(base.quantization) or any(getattr(base, n) != getattr(file, n) for n in same):
        return ""
    return f"its own {base.quantization}"


def _against(results: Sequence[Result]) -> list[str]:
    """The baselines for people: a name, or ``its own ...`` where no other file was compared with it."""
    common = {identity(r.baseline) for r in results if r.baseline and not _own(r)}
    return [
        "" if r.baseline is None else (_own(r) if identity(r.baseline) not in common else "") or base_name(r.baseline)
        for r in results
    ]


def _groups(results: list[Result], entries: dict[tuple[str, str], Entry]) -> list[Group]:
    parts: dict[tuple[str, ...], list[Result]] = {}
    against = dict(zip(map(id, results), _against(results), strict=True))
    # answers before positions; the order of lines plays no part
    keys = {id(r): _group_key(r, against[id(r)]) for r in results}
    for result in sorted(results, key=lambda r: [natural(part) for part in keys[id(r)]]):
        parts.setdefault(keys[id(result)], []).append(result)
    firsts = [part[0] for part in parts.values()]
    bases = [against[id(first)] for first in firsts]
    titles = _titles(firsts, bases)
    return [_group(title, base, part, entries) for title, base, part in zip(titles, bases, parts.values(), strict=True)]


def _group(title: str, base: str, part: list[Result], entries: dict[tuple[str, str], Entry]) -> Group:
    by_place = {(entries[identity(r.file), r.kv_type], r.length): r for r in part}
    lengths, kind = tuple(sorted({r.length for r in part})), kinds()[part[0].kind]
    cells = {(e, n): by_place[e, n] for e in entries.values() for n in lengths if (e, n) in by_place}
    rows = tuple(dict.fromkeys(e for e, _ in cells))
    return Group(title, base, kind.unit(part[0]), kind.higher_is_better, rows, lengths, cells)


def _titles(firsts: list[Result], bases: list[str]) -> list[str]:
    """The task and its baseline; where one task was run in several ways, also what differs between them."""
    titles, ways = [], [_ways(first) for first in firsts]
    for result, base, mine in zip(firsts, bases, ways, strict=True):
        others = [way for r, way in zip(firsts, ways, strict=True) if r.task == result.task and r is not result]
        differing = [f"{k} {v}" for k, v in mine.items() if any(way.get(k) != v for way in others)]
        title = f"{result.task} against {base}" if base else result.task
        titles.append(f"{title} ({', '.join(differing)})" if differing else title)
    return titles


def _ways(result: Result) -> dict[str, str]:
    ways = {
        k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in result.options.items() if k != _LIMIT
    }
    if result.by_depth:
        ways["depths"] = _depths(result)
    ways["seed"] = str(result.seed)
    return {k: v if len(v) <= 40 else v[:37] + "..." for k, v in ways.items()}


def remarks(results: Sequence[Result]) -> list[str]:
    """Notes of the runs with the files that they are about; tables mark lengths beyond a context, so not those."""
    files: dict[str, dict[str, None]] = {}
    for result in results:
        for note in result.coded_notes:
            if note.code != NoteCode.BEYOND_CONTEXT:
                said = f"{result.task} at {result.length} tokens: {note.text}"
                files.setdefault(said, {})[base_name(result.file)] = None
    return [f"{note} ({_some(list(names))})" for note, names in files.items()]


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} other files"


def _uneven(groups: Sequence[Group]) -> list[str]:
    """Where not everything was measured alike."""
    notes = []
    for group in groups:
        missing = len(group.entries) * len(group.lengths) - len(group.cells)
        if missing:
            notes.append(
                f"{group.title}: {missing} of {len(group.entries) * len(group.lengths)} cells were not measured."
            )
        counts = sorted({texts(r) for r in group.cells.values()})
        if len(counts) > 1:
            notes.append(f"{group.title}: cells are of {counts[0]} to {counts[-1]} texts.")
    said = len(remarks([r for g in groups for r in g.cells.values()]))
    return [*notes, f"The runs left {said} {'remark' if said == 1 else 'remarks'}, see Settings."] if said else notes

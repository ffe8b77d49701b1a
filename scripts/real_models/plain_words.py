"""The front of the page: what the lines say, in sentences that are computed from them and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ggufrope.evals.results import Result
from ggufrope.report.blocks import Block, Code, Points, Prose, Strong
from ggufrope.report.comparison import compare
from ggufrope.report.depth_differences import depth_difference, middle_depths
from ggufrope.report.difference import Difference
from ggufrope.report.entries import Entry
from ggufrope.report.numbers import decimals, difference_interval, in_words, short, signed
from ggufrope.report.reach import limit_of
from ggufrope.report.study import Group, Study, texts
from ggufrope.text import counted
from real_models.declared_grid import DeclaredCell
from real_models.pinned_models import MODELS

__all__ = ["Finding", "findings", "front", "in_short", "missing"]

_FULL = ("F16", "f16")  # weights and cache that methods are compared in, where there are such
_MOST_LOST = 0.5  # of a score: more makes a method unusable, whatever it is for
#: What one comparison came to.
BETTER, WORSE, ALIKE, STUCK = "better", "worse", "no difference shown", "nothing can be compared"


@dataclass(frozen=True, slots=True)
class Finding:
    """One file beside what it is compared with, at one length.

    Attributes:
        model: name of the model.
        group: task and options.
        length: tokens.
        entry: the file.
        reference: what it is compared with.
        overall: their difference.
        middle: the same of the middle depths alone; None where a task has none.
    """

    model: str
    group: Group
    length: int
    entry: Entry
    reference: Entry
    overall: Difference
    middle: Difference | None

    @property
    def outcome(self) -> str:
        """``BETTER``, ``WORSE``, ``ALIKE``, or ``STUCK`` where both are at the ceiling or the floor."""
        values = [v for e in (self.entry, self.reference) if (v := self.group.get(e, self.length)) is not None]
        return STUCK if limit_of(self.group, values) else verdict(self.group, self.overall)

    @property
    def inside(self) -> bool:
        """Whether the length is within what the model was trained for."""
        return self.length <= self.entry.trained

    @property
    def lost(self) -> float:
        """The share of the reference's score that is lost."""
        base = self.group.get(self.reference, self.length)
        return -self.overall.value / base.value if base is not None and base.value else 0.0

    @property
    def where(self) -> str:
        """``SmolLM2-135M-Instruct, kv-retrieval at 1024 tokens``."""
        return f"{MODELS[self.model].title}, {self.group.any.task} at {self.length} tokens"

    @property
    def change(self) -> str:
        """``−0.210 (−0.270 to −0.150)``; of losses, with the share that it is."""
        digits = decimals(self.group)
        return f"{signed(self.overall.value, digits)} ({difference_interval(self.overall, digits)})"


def verdict(group: Group, change: Difference) -> str:
    """``BETTER`` or ``WORSE`` where the interval excludes zero, else ``ALIKE``."""
    if not change.shown:
        return ALIKE
    return BETTER if (change.value > 0) == group.higher else WORSE


def findings(studies: Mapping[str, Study], kind: str) -> list[Finding]:
    """Every comparison of a kind of ``comparison.KINDS``, by model, task and length."""
    found = []
    for model, study in studies.items():
        for group in study.groups:
            for c in compare(group, kind):
                for length, overall in c.by_length.items():
                    a, b = group.cells[c.entry, length], group.cells[c.reference, length]
                    middle = depth_difference(a, b, middle_depths(a)) if middle_depths(a) else None
                    found.append(Finding(model, group, length, c.entry, c.reference, overall, middle))
    return found


def front(studies: Mapping[str, Study], declared: Sequence[DeclaredCell]) -> tuple[Block, ...]:
    """The first page: when to use what, what it costs in short texts, what did not help, what is not measured."""
    methods = findings(studies, "method")
    results = [r for study in studies.values() for r in study.results]
    use = (*_inside(methods), *_beyond(methods), *_types(studies))
    blocks = (
        Points(use or (_nothing("methods"),), "When to use what"),
        Points(tuple(_costs(methods)) or (_nothing("losses"),), "What it costs in short texts"),
        Points(tuple(_in_vain(methods)) or (_nothing("methods"),), "What did not help"),
        Points(tuple(_middle(studies, methods)), "What the middle of a text gains"),
        Points(tuple(missing(declared, results)) or (Prose(("Everything that is declared was measured.",)),),
               "Not measured yet"),
    )  # fmt: skip
    return tuple(block for block in blocks if block.items)


def in_short(studies: Mapping[str, Study]) -> list[Prose]:
    """What a README says of it: whether anything answers better, in which weights, at what cost on plain text."""
    methods = findings(studies, "method")
    return [*list(_inside(methods))[:1], *_beyond(methods), *_types(studies), *list(_costs(methods))[:1]]


def _nothing(what: str) -> Prose:
    return Prose((f"No lines on {what} yet.",))


def _inside(methods: Sequence[Finding]) -> Iterator[Prose]:
    """Within the trained context, by what questions are answered."""
    some = [f for f in methods if f.inside and f.group.scores]
    if not some:
        return
    better = [f for f in some if f.outcome == BETTER]
    worse = [f for f in some if f.outcome == WORSE]
    lead = "Within the trained context: "
    said = f" (of {counted(len(some), 'comparison')}, {len(worse)} worse, {len(better)} better)."
    if not better:
        yield Prose((lead, Strong("leave the file as it is"), f". No method was shown to answer better{said}"))
    else:
        listed = [part for f in better for part in ("; ", Code(f.entry.method), f" on {f.where}: {f.change}")][1:]
        yield Prose((lead, Strong("these were shown to answer better"), f"{said} ", *listed, "."))
    harmless = _never(some, WORSE)
    harmful = list(dict.fromkeys(f.entry.method for f in worse if f.lost >= _MOST_LOST))
    somewhat = [label for label in dict.fromkeys(f.entry.method for f in worse) if label not in harmful]
    if harmless:
        yield Prose(
            (
                "If one is wanted all the same, never shown to answer worse over all depths: ",
                *_named(harmless, some),
                ".",
            )
        )
    if harmful:
        yield Prose((Strong("Not to be used there: "), *_named(harmful, worse), "."))
    if somewhat:
        yield Prose(("Shown to answer somewhat worse: ", *_named(somewhat, worse), "."))


def _beyond(methods: Sequence[Finding]) -> Iterator[Prose]:
    """Beyond the trained context, the same for every task."""
    some = [f for f in methods if not f.inside]
    for (model, title, length), part in _by_place(some).items():
        good, bad = ([f for f in part if f.outcome == o] for o in (BETTER, WORSE))
        where = f"Beyond the trained context ({MODELS[model].title}, {title} at {length} tokens): "
        if not good:
            yield Prose((where, f"none of {counted(len(part), 'method')} is shown to be better than none."))
            continue
        names = [p for f in _best_first(good) for p in (", ", Code(f.entry.method), f" {f.change}")][1:]
        yield Prose((where, Strong("better than none: "), *names, f"; worse: {len(bad)} of {len(part)}."))


def _types(studies: Mapping[str, Study]) -> Iterator[Prose]:
    """Weights against F16, and types of the KV cache against f16: each type in a sentence."""
    for kind, name in (("quantization", "Weights"), ("kv", "KV cache")):
        found = findings(studies, kind)
        for quantized in dict.fromkeys(_type(f, kind) for f in found):
            some = [f for f in found if _type(f, kind) == quantized]
            worse = [f for f in some if f.outcome == WORSE]
            lead, many = f"{name} in {quantized}: ", counted(len(some), "comparison")
            if not worse:
                yield Prose((lead, Strong("no loss shown"), f" in {many} with {_type_of_reference(some[0], kind)}."))
            else:
                most = max(worse, key=lambda f: abs(f.overall.value))
                said = f" in {len(worse)} of {many}; the greatest: {most.where}, {most.change}"
                yield Prose((lead, Strong("worse"), said, ", ", Code(most.entry.method), "."))


def _type(finding: Finding, kind: str) -> str:
    return finding.entry.quantization if kind == "quantization" else finding.entry.kv_type


def _type_of_reference(finding: Finding, kind: str) -> str:
    return finding.reference.quantization if kind == "quantization" else finding.reference.kv_type


def _costs(methods: Sequence[Finding]) -> Iterator[Prose]:
    """Losses on plain text within the trained context, as shares of the untouched model's."""
    some = [f for f in methods if f.inside and f.group.any.task == "ppl"]
    for (model, title, length), part in _by_place(some).items():
        plain = part[0].group.get(part[0].reference, length)
        if plain is None:
            continue
        digits, n = decimals(part[0].group), texts(part[0].group.any)
        lead = f"{MODELS[model].title}, {title}, {counted(n, 'text')} of {length} tokens: the loss of none is "
        parts: list[str] = [lead, f"{in_words(plain, digits)} nats per token"]
        for f in sorted(part, key=lambda f: f.overall.value):
            share = f"{signed(100 * f.overall.value / plain.value, 1)}%"
            parts += ["; ", Code(f.entry.method), f" {share}{'' if f.overall.shown else ' (not shown)'}"]
        yield Prose((*parts, "."))


def _in_vain(methods: Sequence[Finding]) -> Iterator[Prose]:
    """Methods that were not shown to be better anywhere."""
    vain = _never(methods, BETTER)
    if vain:
        parts: list[str] = []
        for label in vain:
            mine = [f for f in methods if f.entry.method == label]
            worse = sum(f.outcome == WORSE for f in mine)
            parts += [", ", Code(label), f" ({counted(len(mine), 'comparison')}, {worse} worse)"]
        yield Prose(("Never shown to be better than the untouched model: ", *parts[1:], "."))
    stuck = sum(f.outcome == STUCK for f in methods)
    if stuck:
        yield Prose((f"In {counted(stuck, 'comparison')} all were at the ceiling or the floor; those say nothing.",))


def _middle(studies: Mapping[str, Study], methods: Sequence[Finding]) -> Iterator[Prose]:
    """Where the untouched model loses the middle, and what each method does to it."""
    for (model, title, length), part in _by_place([f for f in methods if f.middle is not None]).items():
        base = part[0].group.cells[part[0].reference, length]
        shown = [f for f in part if f.middle is not None and f.middle.shown]
        lead = f"{MODELS[model].title}, {title} at {length} tokens: none finds {_depths(base)}. "
        gain = [f for f in shown if f.middle is not None and f.middle.value > 0]
        lost = [f for f in shown if f.middle is not None and f.middle.value < 0]
        best = max(part, key=lambda f: f.middle.value if f.middle else 0.0)
        many = counted(len(part), "method")
        said = f"Between the ends, of {many} {len(gain)} shown to gain, {len(lost)} to lose; best: "
        value = f" {signed(best.middle.value, 2)} ({difference_interval(best.middle, 2)})." if best.middle else ""
        yield Prose((lead, said, Code(best.entry.method), value))


def _depths(result: Result) -> str:
    """``.50 .05 .05 .05 .40 from the beginning to the end (20 texts)``."""
    scores = " ".join(short(d.score) for d in result.by_depth or ())
    return f"{scores} from the beginning to the end ({counted(texts(result), 'text')})"


def missing(declared: Sequence[DeclaredCell], results: Sequence[Result]) -> Iterator[Prose]:
    """Cells of the grid without a line, by part, model and task."""
    absent: dict[tuple[str, str, str], list[DeclaredCell]] = {}
    total: dict[tuple[str, str, str], int] = {}
    for cell in declared:
        key = cell.piece.part, cell.model.title, f"{cell.piece.task} at {cell.length} tokens"
        total[key] = total.get(key, 0) + 1
        if not any(cell.measured_by(r) for r in results):
            absent.setdefault(key, []).append(cell)
    for (part, model, task), cells in absent.items():
        names = dict.fromkeys(f"{c.method.label} {c.weights}" + (f" KV {c.kv}" * (c.kv != "f16")) for c in cells)
        which = "all of it" if len(cells) == total[part, model, task] else ", ".join(names)
        yield Prose((Code(f"--part {part}"), f", {model}, {task}: {which} ({counted(len(cells), 'cell')})"))


def _by_place(found: Iterable[Finding]) -> dict[tuple[str, str, int], list[Finding]]:
    """By model, task and length; only in full weights and caches where there are such."""
    places: dict[tuple[str, str, int], list[Finding]] = {}
    for f in found:
        places.setdefault((f.model, f.group.title, f.length), []).append(f)
    for key, some in places.items():
        full = [f for f in some if (f.entry.quantization, f.entry.kv_type) == _FULL]
        places[key] = full or some
    return places


def _never(found: Sequence[Finding], outcome: str) -> list[str]:
    """Methods that no comparison came to ``outcome`` for, of those that were compared where anything could be seen."""
    labels = dict.fromkeys(f.entry.method for f in found if f.outcome != STUCK)
    return [label for label in labels if not any(f.entry.method == label and f.outcome == outcome for f in found)]


def _named(labels: Sequence[str], found: Sequence[Finding]) -> list[str]:
    """Each with its worst comparison of scores, or of losses where there are no others; every place is said once."""
    places: dict[str, list[str]] = {}
    for label in labels:
        mine = [f for f in found if f.entry.method == label]
        some = [f for f in mine if f.group.scores] or mine
        some = [f for f in some if (f.entry.quantization, f.entry.kv_type) == _FULL] or some
        worst = min(some, key=lambda f: f.overall.value if f.group.higher else -f.overall.value)
        parts = places.setdefault(worst.where, [])
        parts += [", " if parts else "", Code(label), f" {worst.change}"]
    return [
        part for at, (where, parts) in enumerate(places.items()) for part in ("; " * (at > 0), f"{where}: ", *parts)
    ]


def _best_first(found: Sequence[Finding]) -> list[Finding]:
    return sorted(found, key=lambda f: -f.overall.value if f.group.higher else f.overall.value)

"""The report as a whole: its sections in order, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ggufrope.report.answer import answer, beyond
from ggufrope.report.blocks import Block, Document, Points, Prose, Section, Strong
from ggufrope.report.curves import charts
from ggufrope.report.depth_differences import by_depth_minus_none
from ggufrope.report.entries import Entry
from ggufrope.report.heatmap import maps
from ggufrope.report.provenance import settings
from ggufrope.report.study import Group, Study
from ggufrope.report.tables import by_depth, by_position, cost_and_gain, minus_full_cache, minus_unquantized
from ggufrope.text import counted

__all__ = ["document", "numbers_of", "reading"]


def _maps(group: Group) -> tuple[Block, ...]:
    block = maps(group)
    return (block,) if block else ()


_PARTS: tuple[tuple[str, str, Callable[[Group], tuple[Block, ...]]], ...] = (
    ("answer", "The answer", answer),
    ("maps", "By depth and length", _maps),
    ("curves", "Curves", lambda group: tuple(charts(group))),
    ("differences", "What quantization costs", lambda g: (*minus_unquantized(g), *minus_full_cache(g))),
    (
        "cost",
        "Short-context cost beside long-context gain",
        lambda g: (*cost_and_gain(g), *by_depth_minus_none(g)),
    ),
    ("numbers", "Every number", lambda group: (*by_depth(group), *by_position(group))),
)


def document(study: Study, title: str) -> Document:
    """All of the report."""
    sections = [Section(name, said, _of_all(study, make)) for name, said, make in _PARTS]
    sections.append(Section("settings", "Settings", settings(study)))
    sections.append(Section("reading", "How to read this page", (reading([study]),)))
    kept = tuple(s for s in sections if s.blocks)
    return Document(title, _lead(study), tuple(Prose((note,)) for note in study.notes), kept)


def numbers_of(study: Study) -> tuple[Block, ...]:
    """Everything but settings, for a page on several studies: the same blocks, one after the other."""
    return tuple(block for _, _, make in _PARTS for block in _of_all(study, make))


def _of_all(study: Study, make: Callable[[Group], tuple[Block, ...]]) -> tuple[Block, ...]:
    return tuple(block for group in study.groups for block in make(group))


def _lead(study: Study) -> Prose:
    results, groups = study.results, study.groups
    entries = {e for g in groups for e in g.entries}
    lengths = sorted({length for g in groups for length in g.lengths})
    days = sorted({r.finished[:10] for r in results})
    parts = [
        counted(len({e.file for e in entries}), "file"),
        counted(len({e.method for e in entries}), "method"),
        "weights in " + ", ".join(dict.fromkeys(e.quantization for e in entries_in_order(groups))),
        "KV cache in " + ", ".join(dict.fromkeys(e.kv_type for e in entries_in_order(groups))),
        f"tasks {', '.join(dict.fromkeys(r.task for r in results))}",
        f"{lengths[0]} to {lengths[-1]} tokens" if len(lengths) > 1 else f"{lengths[0]} tokens",
        days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
    ]
    return Prose((" · ".join(parts),))


def entries_in_order(groups: tuple[Group, ...]) -> list[Entry]:
    """Entries of all groups, without repetitions."""
    return list(dict.fromkeys(e for g in groups for e in g.entries))


_ALWAYS = (
    (
        "Intervals",
        "are 95% confidence intervals. They cover the choice of texts, for this task and seed; they say nothing about "
        "other tasks.",
    ),
    (
        "No difference shown",
        "means that two intervals overlap, and that the interval of the difference on the same questions, where there "
        "is one, contains zero. It does not mean that there is no difference.",
    ),
    (
        "Many comparisons.",
        "One in twenty such intervals misses the truth. A single bold difference among many is no proof; a pattern "
        "over neighbouring lengths or quantizations is better.",
    ),
    ("1×, 2×, ...", "are multiples of the length that the model was trained for."),
)
_SCORE = (
    "Score",
    "is the share of right answers, or of right parts of answers, from 0 to 1. Answers are those of greedy decoding.",
)
_NATS = (
    "Nats per token:",
    "for ppl, the negative log-likelihood of the text's own next token; e to the power of it is the perplexity. For "
    "kl, how far the probabilities are from the baseline's: lower is closer, which is better only where the baseline "
    "is right.",
)
_BEYOND = ("†", "marks lengths beyond the context that a file declares; they were measured all the same.")
_NOT_SHOWN = (
    "Not shown:",
    "the answers themselves and single questions, which are in the results file; speed and memory; other models and "
    "other tasks.",
)


def reading(studies: Sequence[Study]) -> Points:
    """What the words and marks of a report mean, as far as it uses them."""
    groups = [group for study in studies for group in study.groups]
    wanted = (
        (_SCORE, any(g.scores for g in groups)),
        (_NATS, any("nats" in g.unit for g in groups)),
        (_BEYOND, any(beyond(g, length) for g in groups for length in g.lengths)),
    )
    items = [*_ALWAYS, *(item for item, used in wanted if used), _NOT_SHOWN]
    return Points(tuple(Prose((Strong(name), f" {said}")) for name, said in items))

"""A plan for a context as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ggufrope.planning import ORDER, ContextPlan, Option
from ggufrope.planning.evidence import EvidenceRecord
from ggufrope.text import binary_size

__all__ = ["lines"]


def lines(plan: ContextPlan) -> list[str]:
    """The file and its memory first, then each method that reaches the context, then the others."""
    file = plan.file
    text = [
        f"{file.path}: {file.decoded.model.arch}, trained for {plan.trained} tokens; {plan.context} are "
        f"{plan.multiple:.4g} times that",
        *(f"note: {note}" for note in plan.notes),
        *_memory(plan),
    ]
    plain, composed = [o for o in plan.options if "+" not in o.name], [o for o in plan.options if "+" in o.name]
    if plan.options:
        text += ["", f"These reach {plan.context} tokens ({ORDER}):"]
    for option in plain:
        text += ["", *_option(option, plan.multiple)]
    if composed:
        text += ["", "With head ratios on top (patched llama.cpp only; no numbers are known for the combinations):"]
        text += [f"  {option.command}" for option in composed]
    if plan.refusals:
        text += ["", "These do not, or need further input:"]
        for refusal in plan.refusals:
            if "+" not in refusal.name:
                text.append(f"  {refusal.name}: {refusal.reason}")
                text += [f"    {line}" for line in _known(refusal.evidence, plan.multiple)] * bool(refusal.evidence)
    return text


def _memory(plan: ContextPlan) -> Iterable[str]:
    yield f"weights          {binary_size(plan.weight_bytes)}"
    layout, full = plan.memory, plan.full_window
    if layout is None:
        yield f"KV cache         not computed: {plan.no_memory}"
        return
    yield f"KV cache         {_sizes(plan.cache_bytes())} (--cache-type-k/-v; one sequence, flash attention)"
    if full:
        yield (
            f"                 {layout.n_windowed} of {len(layout.widths)} layers with K and V keep a window of "
            f"{layout.window_cells} cells; with --swa-full, and in `ggufrope.load`, all keep {layout.cells}: "
            f"{_sizes({name: full.kv_bytes(name) for name in plan.cache_bytes()})}"
        )
    if layout.state_bytes:
        yield f"recurrent state  {binary_size(layout.state_bytes)}, at any length"
    yield "                 plus compute buffers, which are not estimated"


def _option(option: Option, multiple: float) -> Iterable[str]:
    factor = f", factor {option.factor:.6g}" if option.factor else ""
    yield f"{option.name}{factor}: {option.title}"
    yield f"  {option.command}"
    yield f"  runs on {option.runs_on}"
    if option.by_length:
        yield f"  rotates by the length in use: {option.short_texts} up to the trained context"
    yield from (f"  {line}" for line in _known(option.evidence, multiple))
    yield from (f"  note: {note}" for note in option.notes)


def _known(records: Sequence[EvidenceRecord], multiple: float) -> Iterable[str]:
    """Grouped by where and on what it was measured."""
    if not records:
        yield "expected: no published results are known to this project, and none were measured here"
        return
    for kind in dict.fromkeys((r.source, r.model) for r in records):
        yield f"{kind[0]}, {kind[1]}:"
        yield from (f"  {r.text()}" for r in records if (r.source, r.model) == kind)
    reach = max(r.reach for r in records)
    if multiple > reach:
        yield f"no results are known beyond {reach:g}×; the request is for {multiple:.4g}×"


def _sizes(sizes: dict[str, int | None]) -> str:
    return ", ".join(
        f"{name} {binary_size(n)}" if n is not None else f"{name} impossible (head size is no multiple of 32)"
        for name, n in sizes.items()
    )

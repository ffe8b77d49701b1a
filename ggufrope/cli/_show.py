"""Text for people: plans and values, in aligned columns."""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np

from ggufrope import keys
from ggufrope.conversion import Done, Request
from ggufrope.convert import Plan
from ggufrope.gguf import Side
from ggufrope.saving import Saved

__all__ = ["saved_text", "show_conversion", "side_text", "value_text"]

_WIDE = 200


def show_conversion(request: Request, done: Done) -> None:
    """Say what was (or would be) written, and who will honour it."""
    plan = done.plan
    target = request.source if request.in_place else request.output or "the output"
    said = saved_text(done.saved) if done.saved else f"would {'edit' if request.in_place else 'write'} {target}"
    if plan is None:
        click.echo(f"{said}: llama.cpp's own conversion, its rope keys agree with config.json")
    else:
        click.echo(f"{said}: {plan.name}, context {plan.context}")
        rows = [(k, b, a) for k, b, a in done.changes if k != keys.ORIGINAL]
        width = max(len(k) for k, _, _ in rows)
        for key, before, after in rows:
            click.echo(f"  {key:<{width}}  {value_text(before)} → {value_text(after)}")
        for name, data in plan.edit.tensors.items():
            click.echo(f"  {name + ' (tensor)':<{width}}  - → {value_text(data)}")
    for note in done.notes:
        click.echo(f"note: {note}")
    if plan is not None:
        click.echo(_runs(plan))


def saved_text(saved: Saved) -> str:
    """Where a result is and how it got there, without a full stop."""
    how = f" ({saved.how})" if saved.how else ""
    return f"{'edited' if saved.in_place else 'wrote'} {saved.path}{how}"


def side_text(side: Side | None) -> str:
    """A key or tensor of one of two files, on one line; ``-`` where it has none."""
    if side is None:
        return "-"
    if side.value is None:
        return side.type
    text = json.dumps(side.value, ensure_ascii=False)
    return f"{side.type} {text if len(text) <= _WIDE else text[: _WIDE - 1] + '…'}"


def value_text(value: Any) -> str:
    """A key's value on one short line; ``-`` for none."""
    if value is None:
        return "-"
    if isinstance(value, (list, tuple, np.ndarray)):
        flat = np.asarray(value, dtype=np.float64).ravel()
        return f"{flat.size} values, {flat.min():.6g} to {flat.max():.6g}" if flat.size else "empty"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _runs(plan: Plan) -> str:
    if keys.SENTINEL in plan.edit.tensors:
        return "runs on: the patched llama.cpp (`ggufrope run|serve`); stock llama.cpp refuses the file"
    if not plan.needs_patched:
        return "runs on: stock llama.cpp as well as the patched one"
    alone = keys.HEAD_FACTORS in plan.edit.set and plan.name != "ms-poe"
    rest = f"{plan.name.partition('+')[2]} without the head ratios" if alone else "the source model, unchanged"
    if keys.LENGTH_FACTORS in plan.edit.set:
        rest = "the source model, unchanged"
    return f"runs on: the patched llama.cpp (`ggufrope run|serve`); stock llama.cpp runs it as {rest}"

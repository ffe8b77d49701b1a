"""Text for people: plans and values, in aligned columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ggufrope.convert.pipeline import Converted, ConvertRequest
from ggufrope.convert.saving import Saved
from ggufrope.gguf import Side, keys
from ggufrope.late import np

if TYPE_CHECKING:
    from ggufrope.calibrate.measure import Calibration

__all__ = ["saved_text", "show_calibration", "show_conversion", "side_text", "value_text"]

_WIDE = 200


def show_conversion(request: ConvertRequest, done: Converted) -> None:
    """Say what was (or would be) written, and who will honour it."""
    plan = done.plan
    target = request.source if request.in_place else request.output or "the output"
    said = saved_text(done.saved) if done.saved else f"would {'edit' if request.in_place else 'write'} {target}"
    if plan is None:
        click.echo(f"{said}: llama.cpp's own conversion")
    else:
        click.echo(f"{said}: {plan.name}, context {plan.context}")
        rows = [(k, b, a) for k, b, a in done.changes if k != keys.ORIGINAL]
        width = max(len(k) for k, _, _ in rows)
        for key, before, after in rows:
            click.echo(f"  {key:<{width}}  {value_text(before)} → {value_text(after)}")
        for name, data in plan.edit.tensors.items():
            click.echo(f"  {name + ' (tensor)':<{width}}  - → {value_text(data)}")
    if done.compared:
        click.echo(done.compared)
    for note in done.notes:
        click.echo(f"note: {note}")
    if plan is not None:
        click.echo(f"runs on: {plan.verdict.runs_on()}")
        for warning in plan.verdict.warnings():
            click.echo(f"warning: {warning}")


def show_calibration(done: Calibration, output: Path) -> None:
    """Say what was measured and how far prompts agree."""
    record, ordering = done.record, done.ordering
    agreement, layers = done.stability()
    values = [r for row in done.ratios for r in row if r != 1.0]
    read = f"{done.measured} of {len(record.cuts)} prompts read now" if done.measured else "all scores were stored"
    lengths = ", ".join(map(str, record.settings.lengths))
    click.echo(f"wrote {output}: {len(record.cuts)} prompts of {lengths} tokens ({read})")
    click.echo(f"  order '{ordering.order}', {len(values)} ratios from {min(values):.4g} to {max(values):.4g}")
    if layers:
        click.echo(f"  orders of two prompts: mean rank correlation {agreement:.2f} over {layers} layers")
    else:
        click.echo("  orders of two prompts: nothing to compare")


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
        flat = np.asarray(value).ravel()
        if flat.size and flat.dtype.kind in "iu":
            return f"{flat.size} values, {flat.min()} to {flat.max()}"
        flat = flat.astype(np.float64)
        return f"{flat.size} values, {flat.min():.6g} to {flat.max():.6g}" if flat.size else "empty"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

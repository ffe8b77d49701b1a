"""What ``convert`` says of a check: the figures, the verdict on each, a warning where the file is worse."""

from __future__ import annotations

import math

from ggufrope.check import Checked, NotChecked, PairedChange

__all__ = ["check_text"]


def check_text(found: Checked | NotChecked | None) -> list[str]:
    """Lines for people."""
    if found is None:
        return []
    if isinstance(found, NotChecked):
        return [f"note: not checked on this model: {found.reason}"]
    loss, copying, texts = found.loss, found.copying, " and ".join(found.texts)
    share = loss.difference / loss.before if loss.before else math.nan
    lines = [
        f"check: {found.prompts} prompts of {found.length} tokens of {texts}, {found.seconds:.0f} s, nats a token, "
        f"{found.against} → converted",
        f"  loss on plain text: {_values(loss)}, {_signed(100 * share, 1)}%{_interval(loss)}: {_finding(loss)}",
        f"  copying from the middle, log-likelihood: {_values(copying)}{_interval(copying)}: {_copying(found)}",
    ]
    return [*lines, _warning(found)] if found.worse else lines


def _values(change: PairedChange) -> str:
    return f"{_number(change.before)} → {_number(change.after)}"


def _interval(change: PairedChange) -> str:
    if math.isnan(change.low):
        return ""
    return f" (95% interval of the difference {_signed(change.low)} to {_signed(change.high)})"


def _finding(change: PairedChange) -> str:
    return change.finding.value if math.isfinite(change.after) else "it computes NaN or infinities"


def _copying(found: Checked) -> str:
    if found.copies or found.worse:
        return _finding(found.copying)
    return f"{_finding(found.copying)}, but {found.against} hardly copies here, so little could be lost"


def _warning(found: Checked) -> str:
    remedy = f"try {found.remedy}, or keep" if found.remedy else "keep"
    return f"warning: the converted file is worse than {found.against} on this text; {remedy} the model as it was"


def _number(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if math.isfinite(value) else str(value)


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else str(value)

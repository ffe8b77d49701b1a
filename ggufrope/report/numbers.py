"""Numbers as a reader sees them: significant digits, aligned, with a real minus sign."""

from __future__ import annotations

import math

from ggufrope.report.blocks import Estimate, TableCell
from ggufrope.report.difference import Difference
from ggufrope.report.study import Group

__all__ = [
    "decimals",
    "difference_cell",
    "estimate_cell",
    "in_words",
    "interval",
    "multiple",
    "plain",
    "short",
    "signed",
]

MINUS = "\u2212"


def decimals(group: Group) -> int:
    """Digits behind the point that all values of ``group`` are given: 3, or up to 5 where some are very small.

    Where that is not enough either, -3: three digits and a power of ten.
    """
    values = [abs(v.value) for key in group.cells if (v := group.get(*key)) is not None and v.value]
    if group.scores or not values:
        return 3
    needed = 1 + math.ceil(-math.log10(min(values)))
    return -3 if needed > 5 else max(3, needed)


def plain(value: float, digits: int) -> str:
    """``0.123``, ``−0.123``, ``1.23e−6``; never a negative zero."""
    if digits < 0:
        mantissa, _, power = f"{value:.{-digits - 1}e}".partition("e")
        return (f"{mantissa}e{int(power)}" if value else "0").replace("-", MINUS)
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", MINUS)


def signed(value: float, digits: int) -> str:
    """``+0.123``, ``−0.123``, ``0.000``."""
    text = plain(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def interval(value: Estimate, digits: int) -> str:
    """``0.912–0.978``; empty where there is none."""
    if value.low is None or value.high is None:
        return ""
    joint = "–" if value.low >= 0 and digits > 0 else " to "
    return f"{plain(value.low, digits)}{joint}{plain(value.high, digits)}"


def in_words(value: Estimate, digits: int) -> str:
    """``0.950 (0.912–0.978)``."""
    bounds = interval(value, digits)
    return f"{plain(value.value, digits)} ({bounds})" if bounds else f"{plain(value.value, digits)} (no interval)"


def estimate_cell(value: Estimate | None, digits: int, title: str = "", strong: bool = False) -> TableCell:
    """A measured value with its interval; a dash where there is none."""
    if value is None:
        return TableCell("–", title=title or "not measured")
    said = f"n = {value.n}" + ("" if value.low is not None else ", too few for an interval")
    return TableCell(plain(value.value, digits), interval(value, digits), f"{title}, {said}" if title else said, strong)


def difference_cell(change: Difference | None, digits: int, mark: bool = False) -> TableCell:
    """A difference with its interval, bold where that excludes zero; ``mark`` the independent ones."""
    if change is None:
        return TableCell("–", title="not measured")
    how = {"paired": f"paired, {change.n} texts", "equal": f"every question scored the same, {change.n} texts"}
    title = how.get(change.how, "independent measurements")
    marked = " ⁱ" if mark and change.how == "independent" else ""
    return TableCell(signed(change.value, digits), difference_interval(change, digits) + marked, title, change.shown)


def difference_interval(change: Difference, digits: int) -> str:
    """``−0.030 to +0.010``; ``all equal`` where every question scored the same."""
    if change.how == "equal":
        return "all equal"
    if change.low is None or change.high is None:
        return "no interval"
    return f"{signed(change.low, digits)} to {signed(change.high, digits)}"


def short(value: float) -> str:
    """Two digits for a narrow cell: ``.97``, ``1``, ``0``; never rounded to what it is not: ``>.99``, ``<.01``."""
    if value in (0.0, 1.0):
        return f"{value:.0f}"
    text = f"{value:.2f}"
    if text in ("1.00", "0.00"):
        return ">.99" if text == "1.00" else "<.01"
    return text.removeprefix("0")


def multiple(length: int, trained: int | None) -> str:
    """``4×`` of the trained length, or nothing where that is not one number."""
    return f"{length / trained:.3g}×" if trained else ""

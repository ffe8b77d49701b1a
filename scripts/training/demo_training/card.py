"""The measured part of the model card, between two marker lines."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def renew_tables(card: Path, tables: str) -> None:
    """Replace what stands between the card's markers by ``tables``.

    Raises:
        ValueError: the card has not both markers.
    """
    text = card.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{card}: no lines {BEGIN} and {END} to put the tables between")
    card.write_text(f"{head}{BEGIN}\n{tables}\n{END}{tail}", encoding="utf-8")

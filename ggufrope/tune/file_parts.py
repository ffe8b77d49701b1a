"""A task's own files in parts, so that no split asks about, or hides a fact in, what another one sees."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ggufrope.errors import UsageError
from ggufrope.evals.task import AnswerTask
from ggufrope.evals.tasks import options
from ggufrope.evals.tasks.haystack import FEWEST, sentences, unpacked
from ggufrope.files import write_bytes
from ggufrope.tune.plain_text import SHARES

__all__ = ["has_parts", "in_parts"]

_FEWEST = 2  # records of a split: one to ask about, and one to stand beside it
_ASKED = ("question", "key")  # what two records that ask the same have in common


def has_parts(task: AnswerTask) -> bool:
    """Whether the task reads files that splits must not share."""
    return bool(_divided(task))


def in_parts(task: AnswerTask, folder: Path) -> dict[str, AnswerTask]:
    """The task once for each split, with its part of each file that the task takes its texts from.

    Records (JSON Lines) are dealt out by a hash of what they ask, so that the same question never comes to two splits,
    whatever the order of lines; a text is cut at the ends of sentences. The same files give the same parts. Files of
    wordings are no texts: all splits have them. A task without such files is the same for all splits, and other seeds
    must keep them apart.

    Args:
        task: what is asked.
        folder: where the parts are written; it must exist.

    Raises:
        InputError, OutputError: a file cannot be read, or a part not be written.
        UsageError: a file has too little for three splits.
    """
    parts: dict[str, dict[str, Path]] = {split: {} for split in SHARES}
    for name, path in _divided(task).items():
        kind = options(type(task))[name].metadata["parts"]
        for split, content in _CUTTERS[kind](path).items():
            # called by content: two tasks may have files of one name
            part = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.{split}.{path.stem}"
            write_bytes(part, content.encode())
            parts[split][name] = part
    return {split: _with(task, given) for split, given in parts.items()}


def _divided(task: AnswerTask) -> dict[str, Path]:
    named = {name: getattr(task, name) for name, field in options(type(task)).items() if "parts" in field.metadata}
    return {name: path for name, path in named.items() if path is not None}


def _with(task: AnswerTask, given: Mapping[str, Path]) -> AnswerTask:
    changed: Any = task
    return dataclasses.replace(changed, **given) if given else task


def _records(path: Path) -> dict[str, str]:
    """Lines by split."""
    by_question: dict[str, list[str]] = {}
    for line in filter(str.strip, unpacked(path).split("\n")):
        by_question.setdefault(_asked(line), []).append(line)
    found = sorted(by_question, key=lambda asked: hashlib.sha256(asked.encode()).hexdigest())
    _require(path, "records", len(found), _FEWEST)
    parts, start = {}, 0
    for split, count in _counts(len(found)).items():
        parts[split] = "".join(f"{line}\n" for asked in found[start : start + count] for line in by_question[asked])
        start += count
    return parts


def _asked(line: str) -> str:
    """What a record asks, or else all of it. Records that are none are the task's to refuse."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line.strip()
    asked = next((record[name] for name in _ASKED if name in record), None) if isinstance(record, dict) else None
    return " ".join(str(asked).lower().split()) if asked else line.strip()


def _text(path: Path) -> dict[str, str]:
    """A text by split, cut behind sentences."""
    found = sentences(unpacked(path))
    _require(path, "sentences", len(found), FEWEST)
    parts, start = {}, 0
    for split, count in _counts(len(found)).items():
        parts[split] = " ".join(found[start : start + count]) + "\n"
        start += count
    return parts


def _require(path: Path, what: str, n: int, fewest: int) -> None:
    counts = _counts(n)
    if min(counts.values()) < fewest:
        would = ", ".join(f"{count} to {split}" for split, count in counts.items())
        raise UsageError(
            f"{path}: {n} {what}, which would be {would}; each split needs {fewest} or more, give a larger file"
        )


def _counts(n: int) -> dict[str, int]:
    """How many of ``n`` each split gets."""
    report, select = round(SHARES["report"] * n), round(SHARES["select"] * n)
    return {"train": n - select - report, "select": select, "report": report}


_CUTTERS: Mapping[str, Callable[[Path], dict[str, str]]] = {"records": _records, "text": _text}

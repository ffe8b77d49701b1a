"""The rows of a report, each a file with a type of KV cache: their labels and their order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ggufrope.evals.results import FileFacts
from ggufrope.methods import PLAIN, front_method, method_names

__all__ = [
    "FLOATS",
    "Entry",
    "Label",
    "base_name",
    "fineness",
    "identity",
    "is_float",
    "make_entries",
    "natural",
    "parameters_text",
]

#: Types that are no quantization.
FLOATS = ("F16", "BF16", "F32")
_MOST_PARAMETERS = 3  # in a label


@dataclass(frozen=True, slots=True)
class Entry:
    """A row.

    Attributes:
        file: identity of the file, by its contents.
        name: the file's name, without a directory.
        model: what tells models apart, as far as results say: architecture and trained context.
        variant: method, parameters and context to the letter: the same for a file and its quantizations.
        method: as a reader sees it, such as ``yarn × 4``; ends in a short hash where nothing else tells files apart.
        alone: whether no other file has the same method and quantization, so that it is known what to compare it with.
        plain: whether the method is ``none``.
        quantization: of the weights.
        kv_type: of the KV cache.
        context: tokens that the file aims at.
        trained: tokens that the model was trained for.
        weights: a hash of them; files that differ in their keys alone have the same.
    """

    file: str
    name: str
    model: str
    variant: str
    method: str
    alone: bool
    plain: bool
    quantization: str
    kv_type: str
    context: int
    trained: int
    weights: str


def identity(file: FileFacts) -> str:
    """A name for what is in the file, whatever the file is called."""
    return f"{file.header}/{file.weights}"


#: Names a file's method for readers; None where it has no name for it.
Label = Callable[[FileFacts], "str | None"]


def make_entries(
    files: Sequence[tuple[FileFacts, str]], label: Label | None = None
) -> tuple[dict[tuple[str, str], Entry], list[str]]:
    """Entries by ``(identity, kv_type)`` in the order they are shown in, and what has to be said of their names.

    Files with the same method and quantization that are not the same file get a short hash behind the method.

    Args:
        files: with the type of the KV cache that each was measured with.
        label: names for methods in the place of those made here.
    """
    facts = {identity(f): f for f, _ in files}
    given = {key: label(f) for key, f in facts.items()} if label else {}
    labels = _labels(facts) | {key: name for key, name in given.items() if name}
    doubles = _same(facts, lambda key, f: (_model(f), labels[key], f.quantization))
    labels |= {key: f"{labels[key]} #{_short(key)}" for group in doubles for key in group}
    shared = {key for group in doubles for key in group}
    several = len({_model(f) for f in facts.values()}) > 1
    entries = {}
    for key, kv_type in sorted(
        {(identity(f), kv) for f, kv in files}, key=lambda k: _order(facts[k[0]], labels[k[0]], k)
    ):
        f = facts[key]
        shown = f"{labels[key]} ({_model(f)})" if several else labels[key]
        entries[key, kv_type] = Entry(
            key, base_name(f), _model(f), _variant(f), shown, key not in shared, f.method == PLAIN, f.quantization,
            kv_type, f.context, f.trained, f.weights,
        )  # fmt: skip
    return entries, [_note(facts, group) for group in doubles]


def base_name(file: FileFacts) -> str:
    """Its name without a directory, in case that results hold a path."""
    return PurePath(file.name.replace("\\", "/")).name


def _labels(facts: dict[str, FileFacts]) -> dict[str, str]:
    """The method with its factor; where files differ in context or other parameters, with those too.

    Decided for all quantizations together: a file and its quantizations are called the same.
    """
    labels = {key: _label(f) for key, f in facts.items()}
    for group in _same(facts, lambda _, f: (_model(f), _label(f))):
        if len({facts[key].context for key in group}) > 1:
            labels |= {key: f"{labels[key]} to {facts[key].context}" for key in group}
        for same in _same({key: facts[key] for key in group}, lambda _, f: f.context):
            for name in _telling([facts[key].params for key in same]):
                labels |= {key: f"{labels[key]}, {name} {_value(facts[key], name)}" for key in same}
    return labels


def _value(file: FileFacts, name: str) -> str:
    unrecorded = front_method(file.method).traits.unrecorded if file.method in method_names() else {}
    value = file.params.get(name, unrecorded.get(name, "absent"))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _telling(params: list[dict[str, Any]]) -> list[str]:
    """The fewest parameters that tell as many apart as all of them would, each the one that adds most; 3 at most."""
    names, chosen = _differing(params), list[str]()

    def apart(some: list[str]) -> int:
        return len({tuple(repr(p.get(name)) for name in some) for p in params})

    while len(chosen) < _MOST_PARAMETERS and apart(chosen) < apart(names):
        chosen.append(max((n for n in names if n not in chosen), key=lambda n: apart([*chosen, n])))
    return sorted(chosen, key=names.index)


def _differing(params: list[dict[str, Any]]) -> list[str]:
    """Names of parameters that are not the same everywhere and short enough to be part of a label."""
    names = dict.fromkeys(name for p in params for name in p)
    by_name = {name: [p.get(name) for p in params] for name in names}
    return [
        name
        for name, values in by_name.items()
        if any(v != values[0] for v in values)
        and len(name) <= 20
        and all(v is None or (isinstance(v, (str, int, float)) and len(str(v)) <= 20) for v in values)
    ]


def _same(facts: dict[str, FileFacts], what: Callable[[str, FileFacts], object]) -> list[list[str]]:
    """Groups of two or more files for which ``what`` returns the same."""
    groups: dict[object, list[str]] = {}
    for key, f in facts.items():
        groups.setdefault(what(key, f), []).append(key)
    return [group for group in groups.values() if len(group) > 1]


def _note(facts: dict[str, FileFacts], group: list[str]) -> str:
    first, said = facts[group[0]], ", ".join(f"{base_name(facts[key])} (#{_short(key)})" for key in group)
    return (
        f"{len(group)} different files are {_label(first)} in {first.quantization}: {said}. "
        "They are shown apart, and not compared with other quantizations or methods."
    )


def _short(key: str) -> str:
    """Of the header's hash and of the weights': files may differ in one alone."""
    header, _, weights = key.partition("/")
    return f"{header[:4]}{weights[:4]}"


def _model(file: FileFacts) -> str:
    return f"{file.architecture}, trained for {file.trained}"


def _label(file: FileFacts) -> str:
    factor = file.params.get("factor")
    scaled = isinstance(factor, (int, float)) and not isinstance(factor, bool) and "×" not in file.method
    return f"{file.method} × {factor:.4g}" if scaled else file.method


def _order(file: FileFacts, label: str, key: tuple[str, str]) -> tuple[object, ...]:
    known = method_names()
    place = known.index(file.method) if file.method in known else len(known)
    return (
        natural(_model(file)),
        place,
        file.method,
        natural(label),
        fineness(file.quantization),
        fineness(key[1]),
        key,
    )


def natural(text: str) -> list[tuple[int, str]]:
    """Numbers by size: ``yarn × 4`` before ``yarn × 16``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", text)]


def fineness(kind: str) -> tuple[int, int, str]:
    """A key that sorts types from fine to coarse: F32, F16, BF16, Q8_0, Q6_K, ..."""
    upper = kind.upper()
    if is_float(upper):
        return 0, -min(int(part.strip("BF")) for part in upper.split("+")), upper[::-1]
    digits = re.search(r"\d{1,18}", upper)
    return 1, -int(digits.group()) if digits else 0, upper


def _variant(file: FileFacts) -> str:
    return f"{file.method} {json.dumps(file.params, sort_keys=True)} {file.context}"


def is_float(kind: str) -> bool:
    """Whether a type is no quantization; ``F16+F32`` is how files without a declared type are described."""
    return all(part in FLOATS for part in kind.upper().split("+"))


def parameters_text(file: FileFacts) -> str:
    """The method's parameters, for people: ``factor 4, slope 1``."""
    return (
        ", ".join(f"{k} {f'{v:g}' if isinstance(v, float) else json.dumps(v)}" for k, v in file.params.items()) or "–"
    )

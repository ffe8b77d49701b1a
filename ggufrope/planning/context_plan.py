"""Which methods bring a file to a context of N tokens, at what cost: the facts behind ``ggufrope plan``.

Nothing is guessed: what a method would write is what ``convert`` plans, memory follows the runtime's own allocation,
and quality is what somebody published or this project measured (``evidence``).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufrope.convert.conversion import plan as plan_conversion
from ggufrope.errors import GgufropeError, NotHonouredError, ParameterError, UnsupportedModelError
from ggufrope.methods import METHODS, front_method, method_names, scaling_method
from ggufrope.methods.protocol import MAX_CONTEXT
from ggufrope.modelfile.decoded import Decoded
from ggufrope.modelfile.foreign_runtimes import Outcome
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.planning.evidence import EvidenceRecord, evidence_for
from ggufrope.planning.memory import PLANNED_TYPES, CacheLayout, NoLayoutError, cache_layout

__all__ = ["ContextPlan", "Option", "Refusal", "plan_context"]

#: How options are sorted; ``ContextPlan.options`` is in this order.
ORDER = "methods that stock llama.cpp runs too come first; then as `ggufrope methods` lists them"


@dataclass(frozen=True, slots=True)
class Option:
    """A method that reaches the context.

    Attributes:
        name: what to call it: a method's name, or ``yarn --dynamic``.
        title: the method's title and paper.
        factor: how many times the trained context; None for a method without one.
        by_length: texts up to the trained context are rotated as ``short_texts`` says, longer ones as far as their
            length needs.
        stock: stock llama.cpp gives the full effect too.
        runs_on: a sentence about runtimes.
        command: the ``convert`` command, for a POSIX shell.
        evidence: what is known of it beyond the trained context.
        notes: what ``convert`` says about it.
        short_texts: ``plain``, or what else its method does with short texts.
    """

    name: str
    title: str
    factor: float | None
    by_length: bool
    stock: bool
    runs_on: str
    command: str
    evidence: tuple[EvidenceRecord, ...]
    notes: tuple[str, ...]
    short_texts: str = "plain"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A method that does not reach the context, or not without something more; ``reason`` is ``convert``'s own."""

    name: str
    reason: str
    evidence: tuple[EvidenceRecord, ...]


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What a person needs to know before bringing a file to a context.

    Attributes:
        file: the file as it is.
        context: tokens that are wanted.
        trained: tokens that the model was trained for, before any scaling.
        options: methods that reach it, in the order of ``ORDER``.
        refusals: the others.
        notes: whether anything has to be done at all.
        weight_bytes: all tensors, in all shards.
        memory: the cache for one sequence; None where it is not computed, and then ``no_memory`` says why.
        full_window: the same with ``--swa-full`` (also what ``ggufrope.load`` takes); None without sliding windows.
        no_memory: empty, or why ``memory`` is None.
    """

    file: ModelFile
    context: int
    trained: int
    options: tuple[Option, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    weight_bytes: int
    memory: CacheLayout | None
    full_window: CacheLayout | None
    no_memory: str

    @property
    def multiple(self) -> float:
        """The context in multiples of the trained one."""
        return self.context / self.trained

    def cache_bytes(self) -> dict[str, int | None]:
        """Bytes of the KV cache for each type; None: llama.cpp refuses it. Empty: not computed."""
        return {name: self.memory.kv_bytes(name) for name in PLANNED_TYPES} if self.memory else {}

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``plan --json``; sizes in bytes, contexts in tokens."""
        memory, full = self.memory, self.full_window
        return {
            "file": str(self.file.path),
            "architecture": self.file.decoded.model.arch,
            "context": self.context,
            "trained_context": self.trained,
            "multiple": self.multiple,
            "present_method": self.file.decoded.method,
            "present_context": self.file.decoded.context,
            "notes": list(self.notes),
            "weights": self.weight_bytes,
            "kv_cache": self.cache_bytes(),
            "kv_cache_full_window": {n: full.kv_bytes(n) for n in PLANNED_TYPES} if full else None,
            "recurrent_state": memory.state_bytes if memory else None,
            "cells": memory.cells if memory else None,
            "window_cells": memory.window_cells if memory else None,
            "memory_not_computed": self.no_memory or None,
            "order": ORDER,
            "options": [
                {
                    "method": o.name,
                    "title": o.title,
                    "factor": o.factor,
                    "by_length": o.by_length,
                    "runs_on": o.runs_on,
                    "stock": o.stock,
                    "command": o.command,
                    "evidence": [_evidence(r) for r in o.evidence],
                    "notes": list(o.notes),
                }
                for o in self.options
            ],
            "not_reaching": [
                {"method": r.name, "reason": r.reason, "evidence": [_evidence(e) for e in r.evidence]}
                for r in self.refusals
            ],
        }


def plan_context(file: ModelFile, context: int) -> ContextPlan:
    """Plan for ``file`` to serve ``context`` tokens. Reads headers only.

    Raises:
        ParameterError: ``context`` is not a number of tokens that llama.cpp can count.
        GgufError: not a usable GGUF.
        UnsupportedModelError: the model has no RoPE.
    """
    if not 1 <= context <= MAX_CONTEXT:
        raise ParameterError(f"--context {context}: give 1 to {MAX_CONTEXT} tokens")
    now, before = file.decoded, file.before  # a key that contradicts the model is an error, whatever the method
    trained = before.model.original_ctx
    options: list[Option] = []
    refusals: list[Refusal] = []
    if context > trained:
        for name, params in _candidates():
            outcome = _option(file, name, params, context)
            (options if isinstance(outcome, Option) else refusals).append(outcome)  # type: ignore[arg-type]  # by kind
    options.sort(key=lambda option: not option.stock)
    memory, full, why = _memory(file, context)
    weights = sum(info.nbytes for header in file.headers for info in header.tensors)
    notes = tuple(_notes(now, context, trained))
    return ContextPlan(file, context, trained, tuple(options), tuple(refusals), notes, weights, memory, full, why)


def _candidates() -> list[tuple[str, dict[str, Any]]]:
    """Every method, each with its variants behind it; compositions last."""
    listed: list[tuple[str, dict[str, Any]]] = []
    for name in method_names():
        variants = METHODS[name].traits.variants if name in METHODS else ()
        listed += [(name, {}), *((name, dict(params)) for params in variants)]
    return listed


def _option(file: ModelFile, name: str, params: dict[str, Any], context: int) -> Option | Refusal:
    shown = " ".join([name, *(f"--{key.replace('_', '-')}" for key in params)])  # variants are set by flags
    evidence = tuple(evidence_for(shown))
    try:
        conversion = plan_conversion(file, name, params, context)
    except (ParameterError, UnsupportedModelError, NotHonouredError) as error:
        return Refusal(shown, str(error).removeprefix(f"{file.path}: "), evidence)
    except GgufropeError as error:  # a damaged key that only this method reads
        return Refusal(shown, str(error), evidence)
    given = conversion.method.params()
    factor = given.get("base", given).get("factor")
    cls, short_texts = front_method(name), scaling_method(name).traits.short_texts
    by_length, stock = conversion.by_length, conversion.verdict.stock is Outcome.FULL
    command = _command(file.path, shown, context)
    title = f"{cls.title} ({cls.paper})"
    runs_on = conversion.verdict.runs_on()
    return Option(shown, title, factor, by_length, stock, runs_on, command, evidence, conversion.notes, short_texts)


def _command(path: Path, shown: str, context: int) -> str:
    stem = path.name.removesuffix(".gguf").partition("-00001-of-")[0]
    out = path.with_name(f"{stem}.{shown.replace(' --', '-')}-{context}.gguf")
    words = ["ggufrope", "convert", str(path), "-o", str(out), "--method", *shown.split(), "--context", str(context)]
    return shlex.join(words)


def _memory(file: ModelFile, context: int) -> tuple[CacheLayout | None, CacheLayout | None, str]:
    source, model = file.original, file.before.model
    try:
        layout = cache_layout(source, model, context)
        full = cache_layout(source, model, context, full_window=True) if layout.window_cells else None
    except NoLayoutError as error:
        return None, None, str(error)
    return layout, full, ""


def _notes(now: Decoded, context: int, trained: int) -> list[str]:
    notes = []
    keeps = now.method in METHODS and METHODS[now.method].traits.keeps_context
    scaled = not keeps and now.context > trained
    if context <= trained:
        undo = f"; it says {now.method} to {now.context} tokens now" if scaled else ""
        notes.append(f"no scaling is needed: the model was trained for {trained} tokens{undo}")
        notes += [
            f"{name} keeps the trained context and aims at better use of it: `ggufrope convert --method {name}`"
            for name, cls in METHODS.items()
            if cls.traits.keeps_scaling and not cls.traits.brings_file
        ]
    elif scaled:
        enough = "which is enough" if now.context >= context else "which is less"
        notes.append(
            f"the file is scaled already: {now.method} to {now.context} tokens, {enough}; every command below replaces "
            "that, starting from the trained context"
        )
    return notes


def _evidence(record: EvidenceRecord) -> dict[str, Any]:
    return {
        "label": record.label,
        "metric": record.metric,
        "model": record.model,
        "trained_further": record.trained,
        "source": record.source,
        "values": {f"{n:g}": v for n, v in record.values.items()},
        "unscaled": {f"{n:g}": v for n, v in record.plain.items()},
    }

"""What converted checkpoints compute beside transformers: tables of ``docs/results/checkpoints.jsonl``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "checkpoints"))
from matrix_cases import CASES, Case  # it needs the path
from matrix_outcome import Outcome, kind
from matrix_record import REFUSALS, read_record
from rope_settings import KEYS, TYPES

__all__ = ["checkpoints"]

_TYPES = ("as it is", *TYPES)
_SETTINGS = ("llama", "qwen3")
_WORDS = {"nothing": "–"}


def checkpoints() -> str:
    """The tables, with what their words mean."""
    found = read_record()
    exact = [o for o in found.values() if o.exact]
    architectures = {o.architecture for o in exact}
    counts = ", ".join(f"{n} {_word(k)}" for k in dict.fromkeys(map(kind, found.values())) if (n := _count(k, found)))
    kl, gap = _small(max(max(o.kl) for o in exact)), _small(max(max(o.gap, o.scale_gap) for o in exact))
    head = [
        f"{len(found)} checkpoints: {counts}.",
        f"{len(architectures)} of llama.cpp's architectures have exact ones. Of all exact ones the largest mean KL is",
        f"{kl} nats, and the largest relative difference of a frequency or an attention scale {gap}.",
    ]
    tables = (_by_type(found), _by_setting(found), _others(found), _refusals(found))
    return "\n\n".join("\n".join(part) for part in (head, *tables)) + "\n"


def _count(which: str, found: dict[str, Outcome]) -> int:
    return sum(kind(o) == which for o in found.values())


def _by_type(found: dict[str, Outcome]) -> Iterable[str]:
    yield f"| model | in GGUF | {' | '.join(_TYPES)} | frequencies | mean KL |"
    yield "|---" * (len(_TYPES) + 4) + "|"
    for toy in dict.fromkeys(c.toy for c in CASES):
        row = [found.get(f"{toy}: {name}") for name in _TYPES]
        present = [o for o in row if o is not None]
        cells = " | ".join(_word(kind(o)) if o else "" for o in row)
        architecture = next((o.architecture for o in present if o.architecture), "–")
        yield f"| {toy} | {architecture} | {cells} | {_worst(present)} |"


def _by_setting(found: dict[str, Outcome]) -> Iterable[str]:
    yield f"| setting | keys | {' | '.join(_SETTINGS)} | frequencies | mean KL |"
    yield "|---" * (len(_SETTINGS) + 4) + "|"
    for name, rope in KEYS.items():
        row = [found[f"{toy}: {name}"] for toy in _SETTINGS]
        yield f"| {name} | `{_keys(rope)}` | {' | '.join(_word(kind(o)) for o in row)} | {_worst(row)} |"


def _others(found: dict[str, Outcome]) -> Iterable[str]:
    yield "| model | setting | keys | came to | frequencies | mean KL |"
    yield "|---|---|---|---|---|---|"
    for case in CASES:
        if case.disguise or case.setting not in {*_TYPES, *(KEYS if case.toy in _SETTINGS else ())}:
            outcome = found[case.name]
            name = f"{case.toy} in `{case.disguise}`" if case.disguise else case.toy
            yield f"| {name} | {case.setting} | {_cell(case)} | {_word(kind(outcome))} | {_worst([outcome])} |"


def _cell(case: Case) -> str:
    return "as above" if case.setting in {**TYPES, **KEYS} else f"`{_keys(case.rope or {})}`"


def _refusals(found: dict[str, Outcome]) -> Iterable[str]:
    refused = [o.case for o in found.values() if kind(o) == "refused"]
    yield f"Refused though transformers runs them ({len(refused)}), by what their names begin with:"
    yield ""
    yield from (f"- `{pattern}`: {why}." for pattern, why in REFUSALS.items())


def _keys(rope: dict[str, Any]) -> str:
    usual = {"rope_theta": 10000.0}
    shown = {k: v for k, v in rope.items() if "rope_scaling" not in rope or (k, v) not in usual.items()}
    return json.dumps(_shortened(shown), ensure_ascii=False)[1:-1]


def _shortened(value: Any) -> Any:
    """Without what lists hold."""
    if isinstance(value, dict):
        return {k: _shortened(v) for k, v in value.items()}
    return "…" if isinstance(value, list) else value


def _word(which: str) -> str:
    return _WORDS.get(which, which)


def _worst(outcomes: list[Outcome]) -> str:
    measured = [o for o in outcomes if o.kl]
    if not measured:
        return "– | –"
    return f"{_small(max(o.gap for o in measured))} | {_small(max(max(o.kl + o.stock_kl) for o in measured))}"


def _small(value: float) -> str:
    return "∞" if value == float("inf") else f"{value:.0e}"

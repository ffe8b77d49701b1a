"""What runs of the toy models showed, in few words (``seen.json``), and the page that tells it. Needs no build."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ggufrope.rope import architectures

__all__ = ["SEEN", "layout", "page", "read_seen", "shift"]

#: Architecture and variant → what ``layout`` and ``shift`` made of its runs.
SEEN = Path(__file__).resolve().parent / "seen.json"

#: What people run most, first.
FAMILIES = {
    "Llama": "llama llama4 llama-embed",
    "Mistral": "mistral3 mistral4",
    "Qwen": "qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe qwen3next qwen35 qwen35moe qwen4exp",
    "Gemma": "gemma gemma2 gemma3 gemma3n gemma4 gemma-embedding",
    "Phi": "phi2 phi3 phimoe",
    "gpt-oss": "gpt-oss",
    "GLM": "chatglm glm4 glm4moe glm-dsa",
    "Granite": "granite granitemoe granitehybrid granite_swa",
    "SmolLM": "smollm3",
    "Command": "command-r cohere2 cohere2moe",
    "DeepSeek": "deepseek deepseek2 deepseek32",
}

#: Load factors of their own and hand them to no rope (read in the pinned source).
_LOADED_ONLY = frozenset({"cogvlm", "falcon-h1", "llada", "pangu-embedded"})

_HEAD = "| architecture | layers | length rows | own factors | K shift |\n|---|---|---|---|---|\n"


def layout(seen: dict[str, Any]) -> dict[str, Any]:
    """From a run of the form ``deep``: what each layer takes, and whether a file may have length rows."""
    layers = seen["layers"]
    owners = [layer["owner"] for layer in layers]
    return {
        "layers": "".join(map(_letter, layers)),
        "owners": owners if owners != list(range(len(layers))) else [],
        "own_factors": any(layer["own_factors"] for layer in layers),
        "length_error": seen["length_error"],
        "errors": sorted({layer["error"] for layer in layers if layer["error"]}),
    }


def _letter(layer: dict[str, Any]) -> str:
    letter = ("H" if layer["several"] else "L") if layer["takes"] else "." if layer["n_head_kv"] else "-"
    return letter.lower() if layer["slides"] else letter


def shift(seen: dict[str, Any]) -> str:
    """From a run of the form ``grouped``: ``exact``, ``inexact`` or ``none``."""
    if "shift_error" not in seen:
        return "none"
    return "exact" if seen["shift_error"] < 1e-2 * seen["shift_effect"] else "inexact"


def page(seen: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The generated parts of ``docs/architectures.md`` by name."""
    known = {name.split()[0] for name in seen}
    first = {arch for names in FAMILIES.values() for arch in names.split()}
    today = "".join(_rows(seen, names.split()) for names in FAMILIES.values())
    refused = "".join(
        f"| `{arch}` | architecture {arch} is not supported: it {why}; all factors must be 1 |\n"
        for arch, why in sorted(architectures.REFUSED.items())
    )
    rotating = {arch for arch, kind in architectures.PAIRING.items() if kind != "none"}
    plain = set(architectures.PAIRING) - rotating - {"clip", "wavtokenizer-dec"}
    return {
        "today": _HEAD + today,
        "others": _HEAD + _rows(seen, sorted((known & rotating) - first - set(architectures.REFUSED))),
        "refused": "| architecture | message |\n|---|---|\n" + refused,
        "messages": _messages(seen),
        "without": f"Without RoPE: {_names(plain)}. With RoPE and without a toy that runs: "
        f"{_names(rotating - known - set(architectures.REFUSED))}.\n",
    }


def read_seen() -> dict[str, dict[str, Any]]:
    """What is in ``seen.json``."""
    found: dict[str, dict[str, Any]] = json.loads(SEEN.read_text(encoding="utf-8"))
    return found


def _rows(seen: dict[str, dict[str, Any]], names: list[str]) -> str:
    rows = []
    for arch in names:
        told = [_row(arch, seen[name]) for name in (f"{arch} dense", f"{arch} moe") if name in seen]
        rows += told[:1] if len(set(told)) == 1 else told
    return "".join(rows)


def _row(arch: str, seen: dict[str, Any]) -> str:
    if not set(seen["layers"].upper()) & {"H", "L"}:
        return f"| `{arch}` | `{seen['layers']}` | – | – | – |\n"
    length = _about(seen["length_error"], arch)
    own = ("unused" if arch in _LOADED_ONLY else "composed") if seen["own_factors"] else "–"
    return f"| `{arch}` | {_pattern(seen)} | {length or 'yes'} | {own} | {seen['shift']} |\n"


def _pattern(seen: dict[str, Any]) -> str:
    shared = [i for i, owner in enumerate(seen["owners"]) if owner != i]
    if not shared:
        return f"`{seen['layers']}`"
    told = ", ".join(f"{i} as {seen['owners'][i]}" for i in shared)
    return f"`{seen['layers']}` {told}"


def _about(message: str, arch: str) -> str:
    """A message without the name that the row begins with."""
    message = re.sub(rf" of architecture {re.escape(arch)}|^architecture {re.escape(arch)} ", "", message)
    message = re.sub(r"key 'ggufrope\.length_factors': expected no such key \((.*)\), .*", r"none: \1", message)
    return re.sub(r"(.*): (only one) length point is possible", r"one row only: \1", message)


def _messages(seen: dict[str, dict[str, Any]]) -> str:
    """Every kind of message about a layer, with an example."""
    kinds: dict[str, str] = {}
    for name in sorted(seen):
        for error in seen[name]["errors"]:
            if error.startswith("layer "):
                kinds.setdefault(re.sub(r"\d+|" + re.escape(name.split()[0]), "", error), error)
    return "".join(f"    {error}\n" for _, error in sorted(kinds.items()))


def _names(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))

"""An inspection as lines of text."""

from __future__ import annotations

from typing import Any

import numpy as np

from ggufrope.gguf import keys
from ggufrope.inspection.summary import Inspection, LayerClass
from ggufrope.inspection.without_rope import WithoutRope
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["lines"]

_SHOWN = 8


def lines(inspection: Inspection) -> list[str]:
    """What a person wants to know first: method, contexts, layers, frequencies, runtimes."""
    if without := inspection.without_rope:
        return _without_rope(without)
    d, model = inspection.decoded, inspection.decoded.model
    text = [
        f"{inspection.file.path}: {model.arch}, {model.n_layer} layers, {_span(model.n_head)} heads, "
        f"{_span(model.n_head_kv)} KV heads, {model.rot_dim} of {model.head_dim} dimensions rotate ({model.pairing})",
        f"method           {d.method}{_settings(d.params)}",
        *_tuned(d.params),
        f"context          trained {inspection.before.model.original_ctx}, now {d.context}",
        f"frequency base   {model.freq_base:g}{_about_base(inspection)}",
        *_rows(inspection),
        *_sliding(inspection),
    ]
    text += [f"{'head ratios' if i == 0 else '':<16} {_class(c)}" for i, c in enumerate(inspection.layer_classes())]
    curves = inspection.wavelengths()
    picks = np.unique(np.linspace(0, model.n_pairs - 1, min(_SHOWN, model.n_pairs)).astype(int))
    text.append("wavelength       tokens per turn at pair " + " ".join(f"{i:>9}" for i in picks))
    text += [f"  {name:<37} " + " ".join(f"{_at(values, i):>9}" for i in picks) for name, values in curves.items()]
    verdict = inspection.verdict
    if fault := inspection.file.original_fault:
        text.append(f"original         its scaling made no sense: {fault}; `before` is without it")
    text += [*_storage(inspection.file), *_honoured_by(verdict.honoured_by())]
    return text + [f"warning: {warning}" for warning in verdict.warnings()]


def _without_rope(model: WithoutRope) -> list[str]:
    heads = model.heads(keys.HEAD_COUNT)
    shape = [f"{model.n_layer} layers"] if model.n_layer else []
    shape += [f"{_span(tuple(heads))} heads"] if heads else []
    return [
        ", ".join([f"{model.file.path}: {model.file.architecture}", *shape, f"does not rotate: {model.reason}"]),
        *(f"context          trained {n}" for n in (model.context,) if n),
        *_storage(model.file),
        *_honoured_by(model.verdict.honoured_by()),
    ]


def _storage(file: ModelFile) -> list[str]:
    n_files, slack = len(file.headers), file.slack
    shards = [f"shards           {n_files}"] if n_files > 1 else []
    return shards + ([f"padding          {slack / 1024:.3g} KiB in the header for later edits"] if slack else [])


def _honoured_by(said: dict[str, str]) -> list[str]:
    return [f"{name + ' llama.cpp':<18} {what}" for name, what in said.items()]


def _rows(inspection: Inspection) -> list[str]:
    """The attention scale; where there are several rows, with the length up to which each one serves."""
    table = inspection.decoded.table
    scales = [f"{s:.6g}" for s in table.attn_scale]
    if len(scales) == 1:
        return [f"attention scale  {scales[0]}"]
    text = [f"rows             {len(scales)}, chosen by the {inspection.decoded.row_chosen_by}"]
    for start in range(0, len(scales), _SHOWN):
        part = slice(start, start + _SHOWN)
        text.append("  to length      " + " ".join(f"{p:>8}" for p in table.length_points[part]))
        text.append("  attention      " + " ".join(f"{s:>8}" for s in scales[part]))
    return text


def _sliding(inspection: Inspection) -> list[str]:
    """Base and attention scale of layers with a sliding window, where they rotate otherwise than the rest."""
    sliding, model = inspection.sliding, inspection.decoded.model.of_sliding
    if sliding is None:
        return []
    scales = ", ".join(f"{s:.6g}" for s in sliding.attn_scale)
    rotated = f", {model.rot_dim} dimensions" if model.rot_dim != inspection.decoded.model.rot_dim else ""
    return [f"sliding windows  base {model.freq_base:g}, attention scale {scales}{rotated}"]


def _at(values: list[float], pair: int) -> str:
    return _short(values[pair]) if pair < len(values) else "-"


def _short(value: float) -> str:
    text = f"{value:.5g}"
    return text if len(text) <= 9 else f"{value:.3g}"


def _about_base(inspection: Inspection) -> str:
    if inspection.freq_base_from != "file":
        key = keys.stock(keys.FREQ_BASE, inspection.file.architecture)
        reason = "which it takes whatever the file says" if key in inspection.file else f"the file has no {key}"
        return f" ({inspection.freq_base_from}: {reason})"
    before = inspection.before.model.freq_base
    return f" (was {before:g})" if before != inspection.decoded.model.freq_base else ""


def _settings(params: dict[str, object]) -> str:
    shown = {k: v for k, v in params.items() if not isinstance(v, (list, dict))}
    return f" ({', '.join(f'{k} {v}' for k, v in shown.items())})" if shown else ""


def _tuned(params: dict[str, Any]) -> list[str]:
    """How the table was found, of a file that `ggufrope tune` wrote; a record that somebody else made may say less."""
    table = params.get("factor_table")
    record = table.get("params") if isinstance(table, dict) else None
    told = record.get("tune") if isinstance(record, dict) else None
    if not isinstance(told, dict):
        return []
    found = f"for {_listed(told.get('for'))} at {_listed(told.get('lengths'))} tokens: space {told.get('space')}, "
    searched = f"{told.get('engine')} engine, {told.get('steps')} steps, seed {told.get('seed')}"
    text, gain, loss = [f"tuned            {found}{searched}"], told.get("gain"), told.get("loss_rise")
    if isinstance(gain, dict) and isinstance(loss, dict):
        interval = f" ({_signed(gain.get('low'))} to {_signed(gain.get('high'))})"
        rise = ", ".join(f"{_signed(share, '+.2%')} at {length}" for length, share in loss.items())
        text.append(f"  gain           {_signed(gain.get('value'))}{interval}; loss on plain text {rise} tokens")
    return text


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, (dict, list)) else str(values)


def _signed(value: Any, form: str = "+.3f") -> str:
    return format(value, form) if isinstance(value, (int, float)) else "–"


def _span(counts: tuple[int, ...]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}"


def _class(c: LayerClass) -> str:
    window = " (sliding window)" if c.sliding else ""
    ratios = "1" if set(c.ratios) <= {1.0} else " ".join(f"{r:.4g}" for r in c.ratios)
    return f"layer{'s' * (len(c.layers) > 1)} {_ranges(c.layers)}{window}: {ratios}{_parts(c)}"


def _parts(c: LayerClass) -> str:
    """Which pairs a ratio is for, where it is not for all of them."""
    if not c.pair_factors:
        return ""
    if any(sorted(row) != list(row) and sorted(row, reverse=True) != list(row) for row in c.pair_factors):
        values = [v for row in c.pair_factors for v in row]
        return f" at the last pair; pairs from {min(values):.4g} to {max(values):.4g} (--json has all)"
    kept = [i for i, of_pair in enumerate(zip(*c.pair_factors, strict=True)) if set(of_pair) == {1.0}]
    alone = f"; pairs {_ranges(tuple(kept))} are at 1" if kept else ""
    return f" at the last pair{alone} (--json has all)"


def _ranges(numbers: tuple[int, ...]) -> str:
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)

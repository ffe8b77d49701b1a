"""What a method with its parameters asks for on a checkpoint, at any length: transformers' formulas, no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ggufrope.reference.declared import FULL, config_of, entries, flat, layer_kind, text_of
from ggufrope.reference.head_ratios import part_factors
from ggufrope.reference.lengths import frequencies, row_points
from ggufrope.reference.rotary import Rotation, rotations
from ggufrope.reference.scaling import frequencies_of, original_context, own_factors, trained_frequencies
from ggufrope.reference.spec import ReferenceSpec, Switch

__all__ = ["asked", "asked_points", "layer_kinds", "part_factors_of", "rotations_of", "switch_of"]

#: What a text of so many tokens is rotated with, by kind of layer (``""``: all layers).
Rotations = Callable[[int], dict[str, Rotation]]


def asked(path: Path, spec: ReferenceSpec) -> Rotations:
    """The frequencies and attention scale of ``spec``'s method on the checkpoint at ``path``.

    Raises:
        CheckpointError: no usable ``config.json``.
        UnsupportedModelError: transformers has no rope settings for its layers without a window.
    """
    text = text_of(config_of(path))
    own, kind = flat(text), "" if "" in entries(text) else FULL
    factors = own_factors(own, spec)

    def at(length: int) -> dict[str, Rotation]:
        found, scale = frequencies(path, own, spec, length)
        values = found if factors is None else found / factors
        return {kind: Rotation(tuple(values.tolist()), scale)}

    return at


def asked_points(path: Path, spec: ReferenceSpec) -> tuple[int, ...]:
    """At which lengths rows of a file with ``spec`` end; see ``row_points``."""
    return row_points(spec, original_context(flat(text_of(config_of(path))), spec))


def part_factors_of(path: Path, spec: ReferenceSpec, layer: int, ratios: Sequence[float]) -> list[list[float]]:
    """What ``ratios`` of a layer's heads make of each of their pairs, ``[head][pair]``; one number without parts."""
    text = text_of(config_of(path))
    trained = frequencies_of(trained_frequencies(text, spec), layer_kind(text, layer)) if spec.from_wavelength else None
    found = part_factors(ratios, torch.empty(0) if trained is None else trained, spec.from_wavelength)
    return found.tolist()  # type: ignore[no-any-return]  # of torch


def rotations_of(path: Path, model: Any, spec: ReferenceSpec) -> Rotations:
    """How ``model``, which ``load_reference`` loaded from ``path`` with ``spec``, rotates.

    Its own modules say it; of a method that was put in for one length, they know that length alone.
    """
    if spec.method is not None and spec.by_length:
        return asked(path, spec)
    return lambda length: rotations(model, length)


def layer_kinds(config: Any) -> tuple[str, ...]:
    """The kind of each layer, where a configuration has rope settings for each kind; else empty.

    Args:
        config: see ``declared.text_of``.
    """
    return () if "" in entries(config) else tuple(getattr(config, "layer_types", None) or ())


def switch_of(config: Any) -> Switch | None:
    """Where a configuration's settings begin to follow the length; None where they do not.

    Args:
        config: see ``declared.text_of``.
    """
    for entry in entries(config).values():
        kind = str(entry.get("rope_type"))
        if kind == "longrope" and entry.get("short_factor") != entry.get("long_factor"):
            return Switch(int(entry["original_max_position_embeddings"]), in_steps=True, once=True)
        if kind in ("dynamic", "clex"):
            return Switch(int(config.max_position_embeddings), in_steps=kind == "clex")
    return None

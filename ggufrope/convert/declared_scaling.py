"""The scaling that a checkpoint's configuration asks for, as one of our methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ggufrope.convert.hf_config import HfConfig
from ggufrope.errors import CheckpointError
from ggufrope.methods import METHODS, Traits

__all__ = ["READERS", "TRANSFORMERS", "HfRope", "declared_scaling"]

#: Engines whose reading of a configuration can be asked for. They differ in few keys; see ``Method.from_vllm_config``.
TRANSFORMERS, VLLM = READERS = ("transformers", "vllm")

#: Rope types that scale nothing: plain RoPE, of one or of several sections of a head.
_PLAIN = ("default", "mrope", "axial")


@dataclass(frozen=True, slots=True)
class HfRope:
    """The scaling that a configuration asks for.

    Attributes:
        kind: its ``rope_type``.
        method: one of our base methods; None for plain RoPE, and for what no method of ours is called.
        params: its parameters by our names.
        notes: what a person should know of it, one sentence each.
        read_as: whose reading that is; transformers' wherever engines are not known to differ.
    """

    kind: str = "default"
    method: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    read_as: str = TRANSFORMERS

    @property
    def traits(self) -> Traits:
        """Those of the method; of none where the configuration asks for plain RoPE."""
        return METHODS[self.method].traits if self.method else Traits()

    @property
    def scales(self) -> bool:
        """Whether it asks for anything but plain RoPE."""
        return self.kind not in _PLAIN


def declared_scaling(config: HfConfig, reader: str = TRANSFORMERS) -> HfRope:
    """What ``config`` asks for, in the layers that see everything. Whether it is that in all layers, a comparison says.

    Args:
        config: the configuration.
        reader: whose reading counts where engines differ, one of ``READERS``.

    Raises:
        CheckpointError: settings that are incomplete or no numbers.
    """
    rope = config.rope
    kind = str(rope.get("rope_type") or "default").lower()
    asked = next((cls for cls in METHODS.values() if kind in cls.traits.hf_types), None)
    if asked is None:
        return HfRope(kind)
    _require_numbers(config, rope)
    settings = config.text.to_dict()
    try:
        mine, theirs = asked.from_config(settings, rope), asked.from_vllm_config(settings, rope)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{config.path}: its rope settings are incomplete or not numbers ({error}); mend the setting, or give "
            "--method to replace it"
        ) from None
    only = {k: rope[k] for k in asked.traits.hf_vllm_only if rope.get(k) is not None}
    notes = _difference(only, mine, theirs, reader)
    if reader == VLLM and notes:
        return HfRope(kind, asked.name, theirs, notes, reader)
    return HfRope(kind, asked.name, mine, notes)


def _require_numbers(config: HfConfig, rope: Mapping[str, Any]) -> None:
    """Refuse what would be divided by, and is 0, negative, or no number."""
    for name in ("factor", "original_max_position_embeddings", "attention_factor"):
        value = rope.get(name)
        if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
            raise CheckpointError(f"{config.path}: its rope {name} is {value!r}; give a number above 0")


def _difference(
    only: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any], reader: str
) -> tuple[str, ...]:
    """Where the two engines are known to read a configuration differently, in words.

    Args:
        only: what vLLM alone reads of it.
        mine: parameters as transformers reads them.
        theirs: parameters as vLLM reads them.
        reader: whose reading is taken.
    """
    differ = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
    if not differ:
        return ()
    read = " and ".join(f"{k} {v!r}" for k, v in only.items())
    of_vllm, of_transformers = (" and ".join(_shown(p, name) for name in differ) for p in (theirs, mine))
    taken, other = ("vLLM's", TRANSFORMERS) if reader == VLLM else ("transformers'", VLLM)
    return (
        f"config.json's {read} is read by vLLM ({of_vllm}) and not by transformers ({of_transformers}); {taken} "
        f"reading is taken here (--read-config-as {other} takes the other)",
    )


def _shown(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if value is None:
        return f"{name} by the method's formula"
    return f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"

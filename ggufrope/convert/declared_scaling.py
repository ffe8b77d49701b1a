"""The scaling that a checkpoint's configuration asks for, as one of our methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ggufrope.convert.hf_config import HfConfig
from ggufrope.errors import CheckpointError
from ggufrope.methods import METHODS, Method, Traits

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
    settings = config.text.to_dict()
    try:
        mine, theirs = asked.from_config(settings, rope), asked.from_vllm_config(settings, rope)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{config.path}: its rope settings are incomplete or not numbers ({error}); mend the setting, or give "
            "--method to replace it"
        ) from None
    notes = _difference(asked, mine, theirs, reader)
    if reader == VLLM and notes:
        return HfRope(kind, asked.name, theirs, notes, reader)
    return HfRope(kind, asked.name, mine, notes)


def _difference(
    asked: type[Method], mine: Mapping[str, Any], theirs: Mapping[str, Any], reader: str
) -> tuple[str, ...]:
    """Where the two engines are known to read this configuration differently, in words."""
    differ = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
    if not differ:
        return ()
    said = [
        f"{name} {' and '.join(_shown(params, name) for name in differ)}"
        for name, params in (("transformers", mine), ("vLLM", theirs))
    ]
    taken, other = ("vLLM's", TRANSFORMERS) if reader == VLLM else ("transformers'", VLLM)
    return (
        f"engines read config.json's {asked.name} differently: {said[0]}, {said[1]}; {taken} reading is taken "
        f"(--read-config-as {other} takes the other)",
    )


def _shown(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if value is None:
        return f"leaves {name} to the method's formula"
    return f"has {name} {value:.6g}" if isinstance(value, float) else f"has {name} {value}"

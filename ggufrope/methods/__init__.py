"""The one table of methods. A new method is one file here and one line in ``METHODS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

from ggufrope.errors import UnknownMethodError
from ggufrope.methods.clex import Clex
from ggufrope.methods.dynamic_ntk import DynamicNtk
from ggufrope.methods.linear import Linear
from ggufrope.methods.llama3 import Llama3
from ggufrope.methods.longrope import LongRope
from ggufrope.methods.ms_poe import MsPoe
from ggufrope.methods.none import NoScaling
from ggufrope.methods.ntk import Ntk
from ggufrope.methods.protocol import Method, build
from ggufrope.methods.yarn import Yarn
from ggufrope.rope.model import ModelRope
from ggufrope.text import did_you_mean

__all__ = ["METHODS", "Method", "check_name", "method_names", "parameters", "resolve"]

METHODS: dict[str, type[Method]] = {
    cls.name: cls for cls in (NoScaling, Linear, Ntk, DynamicNtk, Yarn, Llama3, LongRope, Clex, MsPoe)
}


def method_names() -> list[str]:
    """Every name that ``resolve`` takes, compositions included."""
    composed = [f"{MsPoe.name}+{n}" for n in METHODS if n not in (MsPoe.name, NoScaling.name)]
    return [*METHODS, *composed]


def check_name(name: str) -> None:
    """Raise UnknownMethodError, with the nearest names, unless ``resolve`` knows ``name``."""
    if name not in method_names():
        hint = did_you_mean(name, method_names(), f"known: {', '.join(METHODS)}, ms-poe+BASE")
        raise UnknownMethodError(f"unknown method '{name}': {hint}")


def parameters(cls: type[Method]) -> list[Field[Any]]:
    """The parameters that a method takes, as dataclass fields with ``help`` in their metadata."""
    return [f for f in fields(cls) if f.name != "base"]


def resolve(name: str, params: Mapping[str, Any], model: ModelRope, context: int | None = None) -> Method:
    """The method called ``name`` (``yarn``, ``ms-poe``, ``ms-poe+yarn``) with its parameters.

    Args:
        name: a name from ``method_names()``.
        params: parameters by field name; None counts as not given. A composition takes those of both its parts.
        model: the model that the factor is derived for.
        context: target context in tokens, or None.

    Raises:
        UnknownMethodError: no such method; the message offers the nearest names.
        UsageError, ParameterError: see ``methods.protocol.build``.
    """
    check_name(name)
    head, _, base_name = name.partition("+")
    if not base_name:
        return build(METHODS[name], params, model, context)
    own = {f.name for f in parameters(METHODS[head])}
    rest = {k: v for k, v in params.items() if k not in own}
    base = build(METHODS[base_name], rest, model, context)
    return build(METHODS[head], {**{k: v for k, v in params.items() if k in own}, "base": base}, model, None)

"""The one table of methods. A new method is one file here and one line in ``METHODS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

from ggufrope.errors import UnknownMethodError
from ggufrope.methods.clex import Clex
from ggufrope.methods.dynamic_ntk import DynamicNtk
from ggufrope.methods.given_table import GivenTable
from ggufrope.methods.linear import Linear
from ggufrope.methods.llama3 import Llama3
from ggufrope.methods.longrope import LongRope
from ggufrope.methods.ms_poe import MsPoe
from ggufrope.methods.none import NoScaling
from ggufrope.methods.ntk import Ntk
from ggufrope.methods.protocol import Method, Traits, build, flag_of
from ggufrope.methods.yarn import Yarn
from ggufrope.rope.model import ModelRope
from ggufrope.text import did_you_mean

__all__ = [
    "METHODS",
    "PLAIN",
    "Method",
    "Traits",
    "check_name",
    "composing_methods",
    "flag",
    "front_method",
    "method_names",
    "parameters",
    "resolve",
    "scaling_method",
]

METHODS: dict[str, type[Method]] = {
    cls.name: cls for cls in (NoScaling, Linear, Ntk, DynamicNtk, Yarn, Llama3, LongRope, Clex, GivenTable, MsPoe)
}


#: The method that removes all scaling.
PLAIN = NoScaling.name


def composing_methods() -> list[type[Method]]:
    """Those that can be put on top of a base method, ``NAME+BASE``."""
    return [cls for cls in METHODS.values() if cls.traits.puts_on_top]


def method_names() -> list[str]:
    """Every name that ``resolve`` takes, compositions included."""
    bases = [name for name, cls in METHODS.items() if not cls.traits.keeps_context]
    return [*METHODS, *(f"{cls.name}+{base}" for cls in composing_methods() for base in bases)]


def front_method(name: str) -> type[Method]:
    """The method that gives a composition its first name; ``name`` itself where it is no composition.

    Raises:
        UnknownMethodError: no such method.
    """
    check_name(name)
    return METHODS[name.partition("+")[0]]


def scaling_method(name: str) -> type[Method]:
    """The method that decides about the scaling: the base of a composition; ``name`` itself where it is none.

    Raises:
        UnknownMethodError: no such method.
    """
    check_name(name)
    return METHODS[name.rpartition("+")[2]]


def check_name(name: str) -> None:
    """Raise UnknownMethodError, with the nearest names, unless ``resolve`` knows ``name``."""
    if name not in method_names():
        known = [*METHODS, *(f"{cls.name}+BASE" for cls in composing_methods())]
        hint = did_you_mean(name, method_names(), f"known: {', '.join(known)}")
        raise UnknownMethodError(f"unknown method '{name}': {hint}")


def parameters(cls: type[Method]) -> list[Field[Any]]:
    """The parameters that a method takes, as dataclass fields with ``help`` in their metadata."""
    return [f for f in fields(cls) if f.name != "base"]


def flag(name: str) -> str:
    """The option of a parameter of any method: ``beta_fast`` → ``--beta-fast``."""
    named = (f for cls in METHODS.values() for f in fields(cls) if f.name == name)
    return next((flag_of(field) for field in named), "--" + name.replace("_", "-"))


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
    front, scaling = front_method(name), scaling_method(name)
    if front is scaling:
        return build(front, params, model, context, flag)
    own = {f.name for f in parameters(front)}
    rest = {k: v for k, v in params.items() if k not in own}
    base = build(scaling, rest, model, context, flag)
    return build(front, {**{k: v for k, v in params.items() if k in own}, "base": base}, model, None, flag)

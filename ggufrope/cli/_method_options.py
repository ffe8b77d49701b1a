"""Command-line options made from the methods' parameters."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Any

import click

from ggufrope.cli._option_groups import option_group
from ggufrope.methods import METHODS, parameters
from ggufrope.methods.parameter_files import READERS
from ggufrope.methods.protocol import flag_of

__all__ = ["method_options", "method_params", "option_beside"]


def method_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add one option for every parameter of every method; methods that share a name share the option.

    In the help the shared ones stand under one heading, and those of each method under a heading of its own.
    """
    for name, (field, owners) in reversed(_by_name().items()):
        option = option_group(_heading(owners))
        command = option(*_declaration(name, field), help=_help(field, owners), **_kind(field))(command)
    return command


def option_beside(name: str) -> Callable[..., Callable[[Any], Any]]:
    """``click.option`` for an option that ``--help`` lists with the method parameter ``name``."""
    return option_group(_heading(_by_name()[name][1]))


def method_params(options: dict[str, Any]) -> dict[str, Any]:
    """Values by parameter name, with JSON files read. Options not given are None."""
    fields = {name: field for name, (field, _) in _by_name().items()}
    return {name: _value(fields[name], options[name]) for name in fields}


def _by_name() -> dict[str, tuple[Field[Any], list[str]]]:
    """Every parameter's field, and the names of the methods that take it; those of several methods come first."""
    owned: dict[str, tuple[Field[Any], list[str]]] = {}
    for method, cls in METHODS.items():
        for field in parameters(cls):
            owned.setdefault(field.name, (field, []))[1].append(method)
    return dict(sorted(owned.items(), key=lambda one: len(one[1][1]) == 1))


def _heading(owners: list[str]) -> str:
    if len(owners) > 1:
        return "Parameters of several methods"
    return f"Parameters of {owners[0]} ({METHODS[owners[0]].title})"


def _help(field: Field[Any], owners: list[str]) -> str:
    text = f"{field.metadata['help'][0].upper()}{field.metadata['help'][1:]}"
    if default := _default(field):
        text += f"; default: {default}"
    return f"{text} [{', '.join(owners)}]" if len(owners) > 1 else text


def _default(field: Field[Any]) -> str:
    """What the option is without being given; empty where the parameter's own help says how it is derived."""
    if field.name == "factor":  # the field's default is none on the command line
        return "--context divided by the original context"
    if isinstance(field.default, bool):
        return flag_of(field) if field.default else "off"
    return str(field.default) if isinstance(field.default, (int, float, str)) else ""


def _declaration(name: str, field: Field[Any]) -> tuple[str, ...]:
    if field.default is True or str(field.type) == "bool | None":
        return (f"{flag_of(field)}/--no-{name.replace('_', '-')}", name)
    return (flag_of(field), name)


def _kind(field: Field[Any]) -> dict[str, Any]:
    if field.metadata.get("kind") in ("list", "ratios", "table"):
        return {"type": click.Path(path_type=Path, dir_okay=False), "metavar": "FILE"}
    if field.metadata.get("kind") == "layer":
        return {"type": click.Path(path_type=Path), "metavar": "DIR"}
    if choices := field.metadata.get("choices"):
        return {"type": click.Choice(choices)}
    types = typing.cast(str, field.type)  # a string: annotations are postponed
    if types.startswith("bool"):
        return {"is_flag": True, "default": None}
    return {"type": int if types.startswith("int") else float if types.startswith("float") else str}


def _value(field: Field[Any], given: Any) -> Any:
    kind = field.metadata.get("kind")
    if given is None or kind is None:
        return given
    if kind == "layer" and given.is_dir():
        from ggufrope.convert.trained_layers import solve_layer  # late: --help has no milliseconds to spare

        return solve_layer(field.name, given)
    return READERS[kind](given, field.name)

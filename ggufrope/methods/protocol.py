"""The protocol of a method, and the one helper its parameters are declared with.

A method is a frozen dataclass: its fields are its parameters, its docstring its documentation, ``table`` its maths.
From the fields follow the command line's options, ``ggufrope methods`` and the ``ggufrope.params`` key; from ``table``
the GGUF keys, the parity tests and the evaluation. Where stock llama.cpp can express a method in its own keys,
``stock`` says how; ``modelfile/encoded.py`` computes what stock would do with them and uses them only if it is the
same table.

What else the rest of the package must know is in ``traits`` and the methods that have a default here. Nothing outside
``methods/`` asks which method it has before it (a test reads the source).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ggufrope.errors import ParameterError, UsageError
from ggufrope.methods.config_parameters import parameters_from_config
from ggufrope.methods.head_order import STATIC
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

__all__ = ["GRANULARITY", "Method", "Traits", "build", "flag_of", "granular", "option", "positive", "reach"]


MAX_CONTEXT = 2**31 - 1

#: Default ratio between two length points: four rows for each doubling of the length.
GRANULARITY = round(2**0.25, 6)
_FINEST = 1.01


def option(default: Any, help_text: str, **extra: Any) -> Any:
    """A parameter of a method.

    Args:
        default: of the parameter.
        help_text: what it is, for the command line.
        extra: ``choices`` (tuple); ``kind``, one of ``parameter_files.READERS``; ``flag``, its name on the command line
            where that is not the parameter's.
    """
    return dataclasses.field(default=default, metadata={"help": help_text, **extra})


def flag_of(field: dataclasses.Field[Any]) -> str:
    """The option of a parameter: ``beta_fast`` → ``--beta-fast``."""
    return "--" + str(field.metadata.get("flag", field.name)).replace("_", "-")


@dataclasses.dataclass(frozen=True, slots=True)
class Traits:
    """What a method is to the rest of the package.

    Attributes:
        keeps_context: it has no other context than the one that the model was trained for.
        keeps_scaling: it keeps the scaling that a file declares and acts on top of it.
        changes_base: it is another base of the frequencies, and so acts in every layer that has the file's base.
        puts_on_top: what it adds to a base method, in words; such a method composes, ``NAME+BASE``. Empty: it does not.
        as_published: parameters with which it does what its paper does, where its defaults do not.
        suggested_bases: bases that help texts name, the first one first.
        calibrated: parameters that ``--calibrate`` takes, to measure ``head_ratios`` in their place.
        trained_layer: the parameter that is a layer trained with the model; ``convert.trained_layers`` solves it.
        layer_tensors: what the names of that layer's tensors in a checkpoint have in common.
        hf_types: ``rope_type`` in a ``config.json``, lower case, where it means this method; today's name first.
        hf_parameters: parameters that a ``config.json`` may have for it.
        hf_vllm_only: keys of a ``config.json``'s rope settings that vLLM reads and transformers does not.
        reaches_factor: factor times original context is how far it reaches, whatever else a ``config.json`` says.
        lists: parameters that can say any frequencies: divisors up to the original context, and beyond.
        variants: parameters with which ``plan`` lists the method once more.
        numbers: parameters that a search may move, numbers above 0 that have a default and change frequencies.
        short_texts: how texts up to the trained context are rotated, where frequencies follow the length.
        brings_file: its numbers are those of a person's own file: there is nothing to suggest without one.
        unrecorded: what it means for a parameter that a file's parameters lack it, where that is not its default.
    """

    keeps_context: bool = False
    keeps_scaling: bool = False
    changes_base: bool = False
    puts_on_top: str = ""
    as_published: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    suggested_bases: tuple[str, ...] = ()
    calibrated: tuple[str, ...] = ()
    trained_layer: str = ""
    layer_tensors: str = ""
    hf_types: tuple[str, ...] = ()
    hf_parameters: tuple[str, ...] = ()
    hf_vllm_only: tuple[str, ...] = ()
    reaches_factor: bool = False
    lists: tuple[str, ...] = ()
    variants: tuple[Mapping[str, Any], ...] = ()
    numbers: tuple[str, ...] = ()
    short_texts: str = "plain"
    brings_file: bool = False
    unrecorded: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Method(ABC):
    """One RoPE-scaling method with its parameters. Subclasses validate themselves in ``__post_init__``."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    traits: ClassVar[Traits] = Traits()

    @abstractmethod
    def table(self, model: ModelRope) -> RopeTable:
        """The divisors for ``model``. Pure.

        Raises:
            ParameterError: a parameter does not fit the model (a list of the wrong length, say).
            UnsupportedModelError: the model cannot carry the method.
        """

    def fitted_to(self, model: ModelRope) -> Method:
        """The same with what the model decides about its parameters.

        Raises:
            ParameterError: a parameter does not fit the model.
            UnsupportedModelError: the model cannot carry the method.
        """
        return self

    def scaling(self, model: ModelRope) -> RopeTable:
        """``table`` without what the method puts on top of a base; the whole of it where it does not compose. Pure."""
        return self.table(model)

    def on_top(self, model: ModelRope) -> RopeTable:
        """What the method puts on top of ``scaling``; nothing where it does not compose. Pure."""
        return RopeTable.identity(model)

    def original(self, model: ModelRope) -> int:
        """The context before scaling, in tokens: the parameter ``original_context``, or else the model's."""
        return getattr(self, "original_context", None) or model.original_ctx

    def context(self, model: ModelRope) -> int:
        """The context in tokens that the method aims at: ``factor`` times the original one, if it has a factor."""
        return round(self.original(model) * getattr(self, "factor", 1.0))

    def stock(self, model: ModelRope) -> StockRope | None:
        """The settings with which stock llama.cpp might compute ``table(model)``; None when it has none."""
        return None

    def runtime_order(self) -> str:
        """Who hands head ratios out, a value of ``ggufrope.head_order``: the file (``static``), or the runtime."""
        return STATIC

    def notes(self, model: ModelRope) -> list[str]:
        """What a person should know of these parameters on ``model``, one sentence each."""
        return []

    def milder(self, model: ModelRope) -> str:
        """What may harm a model less than these parameters do: options and why, for ``try ...``; empty if unknown."""
        return ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that a Hugging Face configuration asks for.

        Args:
            config: what transformers' class makes of ``config.json``, or of the text model's part of it.
            rope: its ``rope_parameters``, of the layers that see everything where there are several.

        Raises:
            KeyError, TypeError, ValueError: a parameter is missing or of another type.
        """
        return parameters_from_config(cls.traits.hf_parameters, config, rope)

    @classmethod
    def from_vllm_config(cls, config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Any]:
        """The same as vLLM reads it, where that is known to differ; see ``from_config``."""
        return cls.from_config(config, rope)

    @classmethod
    def from_file(cls, declared: ModelRope, current: StockRope) -> dict[str, Any]:
        """Parameters with which a file that has this method's own tensors keeps what they say; empty without them."""
        return {}

    def params(self) -> dict[str, Any]:
        """The parameters that are set, by name, ready for JSON."""
        pairs = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {k: list(v) if isinstance(v, tuple) else v for k, v in pairs if v is not None}


def build(
    cls: type[Method],
    params: Mapping[str, Any],
    model: ModelRope,
    context: int | None,
    flag: Callable[[str], str] = lambda name: "--" + name.replace("_", "-"),
) -> Method:
    """``cls(**params)`` with the factor derived from ``context`` when the method has one and it is not given.

    Args:
        cls: the method.
        params: parameters by field name; None counts as not given.
        model: the facts that the derivation needs.
        context: target context in tokens, or None.
        flag: the option of a parameter, for messages.

    Raises:
        UsageError: a parameter that the method does not have, or neither factor nor context for one that needs it.
        ParameterError: a value out of range, or a context that the method does not reach.
    """
    given = {k: v for k, v in params.items() if v is not None}
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if strange := sorted(given.keys() - fields.keys()):
        flags = ", ".join(map(flag, strange))
        own = ", ".join(flag_of(fields[f]) for f in sorted(fields.keys() - {"base"})) or "no options"
        raise UsageError(f"{flags}: method '{cls.name}' has no such parameter (it takes {own})")
    original = int(given.get("original_context") or model.original_ctx)
    if "factor" in fields and "factor" not in given:
        if context is None:
            raise UsageError(f"method '{cls.name}' needs --factor S or --context N (trained context: {original})")
        given["factor"] = context / original
    if context is not None and context < original:
        raise ParameterError(
            f"--context {context} is below the trained context {original}: no scaling is needed, use --method none"
        )
    method = cls(**given)
    if context is not None and context > (limit := method.context(model)):
        raise ParameterError(
            f"--context {context} is beyond what '{cls.name}' with these parameters reaches ({limit}); "
            "take a larger factor, or another --method"
        )
    return method.fitted_to(model)


def positive(method: str, **values: float | None) -> None:
    """Raise ParameterError unless every given value is a finite number above 0."""
    for name, value in values.items():
        if name == "original_context" and value is not None and value > MAX_CONTEXT:
            raise ParameterError(f"{method}: original_context is {value}; llama.cpp counts up to {MAX_CONTEXT} tokens")
        if value is not None and not 0 < value < float("inf"):
            raise ParameterError(f"{method}: {name} is {value}; it must be a finite number above 0")


def reach(method: str, factor: float) -> float:
    """Return ``factor``, or raise ParameterError unless it is finite and at least 1."""
    if not 1 <= factor < float("inf"):
        raise ParameterError(f"{method}: factor is {factor:g}; it must be at least 1 (1 changes nothing)")
    return factor


def granular(method: str, ratio: float) -> None:
    """Raise ParameterError unless ``ratio`` is a usable ratio between length points."""
    if not _FINEST <= ratio < float("inf"):
        raise ParameterError(
            f"{method}: granularity is {ratio:g}; the ratio between two length points is {_FINEST} or more"
        )

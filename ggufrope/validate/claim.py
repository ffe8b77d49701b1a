"""What a file claims to do, in the reference's terms, and what the reference is to compute for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ggufrope.errors import NotHonouredError, ParameterError
from ggufrope.gguf import keys
from ggufrope.methods import METHODS, Traits
from ggufrope.methods.factor_table import GIVEN
from ggufrope.methods.head_order import STATIC
from ggufrope.methods.table_file import table_from_json
from ggufrope.modelfile.decoded import Decoded
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.reference import ReferenceSpec
from ggufrope.reference.ratio_spread import spread_ratios
from ggufrope.rope.length_rows import row_for
from ggufrope.rope.table import HeadRatios
from ggufrope.text import shorten

__all__ = ["BY_NAME", "CHECKPOINT", "Claim", "claim_of", "given_rows", "require_static", "served_as"]

#: The parameter that is a table of factors.
_TABLE = "factor_table"

#: Where a method comes from: it was asked for by name, or read from the checkpoint's configuration.
BY_NAME, CHECKPOINT = "name", "checkpoint"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a file says of its rotation, by names and parameters alone.

    Attributes:
        reference: what the reference computes: the method where it was asked for by name, else the checkpoint's own
            settings, with the head ratios that the parameters ask for on top.
        method: the method with its parameters; None where the file names none, or one that keeps the scaling which
            the model has.
        source: ``name``, ``checkpoint``, or empty where the file has no keys of ours and so claims nothing itself.
        text: all of it, for people.
        digest: sha256 of the factors that it was given, where they are too many for its parameters; else empty.
    """

    reference: ReferenceSpec
    method: ReferenceSpec | None
    source: str
    text: str
    digest: str = ""


def claim_of(file: ModelFile) -> Claim:
    """What ``file`` claims.

    Only names and parameters are passed on, so that the reference computes every frequency and head ratio by itself;
    ratios that were given, not generated, are data. A file without our keys claims to be what its ``config.json`` says,
    and so does one whose method was read from there, or keeps the scaling which the model has.

    Raises:
        ParameterError: a method or parameter that the reference does not have.
        NotHonouredError: the file's head order follows the prompt.
        GgufError: see ``ModelFile``.
    """
    decoded = file.decoded
    require_static(decoded)
    if not decoded.ours:
        text = f"no method of ggufrope ({decoded.method} in llama.cpp's keys): to rotate as the checkpoint asks for"
        return Claim(ReferenceSpec(), None, "", text)
    try:
        factors = bool(file.original.model.own_factors)
        method, heads = _method(decoded, factors), _heads(decoded, factors)
        own = method is None or file.method_from_checkpoint
        reference = heads if own or method is None else _on_top(method, heads)
    except (ParameterError, TypeError, ValueError) as error:
        raise ParameterError(f"{file.path}: {keys.PARAMS}: {error}; convert the file again") from None
    source = CHECKPOINT if file.method_from_checkpoint else BY_NAME
    described = heads if method is None else _on_top(method, heads)
    said = {CHECKPOINT: "read from the checkpoint", BY_NAME: "asked for by name"}[source]
    digest = str(decoded.params.get(_TABLE, {}).get("sha256", ""))
    return Claim(reference, method, source, f"{decoded.method}: {described.describe()}; {said}", digest)


def require_static(decoded: Decoded) -> None:
    """Refuse a head order that follows the prompt.

    Raises:
        NotHonouredError: it does.
    """
    if decoded.head_order != STATIC:
        raise NotHonouredError(
            f"heads are ordered anew for each prompt ({decoded.head_order}); validate compares orders that are in "
            "the file: convert it with --calibrate TEXT instead"
        )


def served_as(decoded: Decoded, length: int) -> int | None:
    """The length whose frequencies serve a text of ``length`` tokens: the point of its row. None: the text's own."""
    return row_for(decoded.table.length_points, length).point if decoded.by_length else None


def _method(decoded: Decoded, own_factors: bool) -> ReferenceSpec | None:
    """The base method; None for one that keeps the model's scaling."""
    head, _, base = decoded.method.partition("+")
    traits = _traits(head)
    if base and traits.puts_on_top:
        given = decoded.params.get("base", {})
        if not isinstance(given, dict):
            raise ParameterError(f"base is {given!r}; an object is needed")
        return ReferenceSpec(base, given, own_factors=own_factors)
    if traits.keeps_scaling:
        return None
    return ReferenceSpec(head, decoded.params, own_factors=own_factors)


def _on_top(method: ReferenceSpec, heads: ReferenceSpec) -> ReferenceSpec:
    names = ("head_ratios", "from_wavelength", "pair_factors", "layer_scales")
    return replace(method, **{name: getattr(heads, name) for name in names})


def _heads(decoded: Decoded, own_factors: bool) -> ReferenceSpec:
    """What the parameters ask for heads, on top of the checkpoint's own settings."""
    if not _traits(decoded.method.partition("+")[0]).puts_on_top:
        return ReferenceSpec()
    if _TABLE in decoded.params:
        return _table(decoded, own_factors)
    from_wavelength = float(decoded.params.get("from_wavelength", 0.0))
    return ReferenceSpec(
        head_ratios=_ratios(decoded, from_wavelength), from_wavelength=from_wavelength, own_factors=own_factors
    )


def _table(decoded: Decoded, own_factors: bool) -> ReferenceSpec:
    """Divisors that somebody gave: data, from the parameters; those of the file where they were too many for them."""
    told, model = decoded.params[_TABLE], decoded.model
    if not isinstance(told, dict):
        raise ParameterError(f"{_TABLE} is {shorten(told)}; an object is needed")
    if told.get("factors") == GIVEN:
        rows = given_rows(decoded)
        scale = float(told.get("attn_scale", 1.0))
    else:
        table = table_from_json(told, _TABLE)
        rows, scale = table.rows(model), table.attn_scale
    scales = [scale if model.rotates(i) and not model.slides(i) else 1.0 for i in range(model.n_layer)]
    return ReferenceSpec(
        own_factors=own_factors,
        pair_factors=tuple(tuple(tuple(map(float, row)) for row in layer) for layer in rows),
        layer_scales=tuple(scales),
    )


def given_rows(decoded: Decoded) -> list[npt.NDArray[np.float64]]:
    """What a file's keys say that each layer's heads have of their own, ``(n_head_kv, rot_dim/2)``."""
    model, table = decoded.model, decoded.table
    shapes = [(n, model.n_pairs_of(layer)) for layer, n in enumerate(model.n_head_kv)]
    rows = (table.head_rows(layer) for layer in range(model.n_layer))
    # rows of other lengths are 1, see RopeTable.of_pairs
    return [np.broadcast_to(r if r.shape[1] in (1, s[1]) else 1.0, s) for r, s in zip(rows, shapes, strict=True)]


def _ratios(decoded: Decoded, from_wavelength: float) -> HeadRatios:
    """The ratios that the parameters ask for; those of the file where they were given one by one to all pairs."""
    params, model = decoded.params, decoded.model
    if "head_ratios" in params:
        if from_wavelength:  # the file has what follows from them
            return tuple(tuple(map(float, row)) for row in params["head_ratios"])
        return decoded.table.head_ratios
    still = [
        not model.rotates(i) or (model.slides(i) and not params.get("sliding", False)) for i in range(model.n_layer)
    ]
    rows = spread_ratios(params, model.n_head_kv, still)
    return tuple(rows[model.leader(layer)] for layer in range(model.n_layer))


def _traits(name: str) -> Traits:
    return METHODS[name].traits if name in METHODS else Traits()  # unknown ones are the reference's to refuse

"""What remains to be done with the converter's GGUF so that it rotates as its checkpoint asks, proved by comparing.

Tried in this order, until one agrees with what transformers computes: the converter's own keys; the method that the
configuration names; the same with transformers' attention scale; lists of the frequencies that transformers has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ggufrope.convert.compared_rotation import ComparedRotation, Expected, compared_lengths
from ggufrope.convert.conversion import Conversion, plan
from ggufrope.convert.declared_scaling import TRANSFORMERS, HfRope
from ggufrope.convert.hf_config import HfConfig
from ggufrope.convert.hf_rotary import find_rotary
from ggufrope.convert.prepared import Prepared
from ggufrope.convert.request import ConvertRequest
from ggufrope.errors import CheckpointError, GgufropeError
from ggufrope.methods import METHODS, PLAIN, front_method, parameters
from ggufrope.modelfile.decoded import Decoded, decode
from ggufrope.modelfile.edited import EditedSource
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope.table import RopeTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CheckpointPlan"]


@dataclass(frozen=True, slots=True)
class _Try:
    """A way to make the file: a plan (None: leave it as it is), what it computes, and what is to be said of it."""

    conversion: Conversion | None
    decoded: Decoded
    note: str = ""


def _put_on_top(attempt: _Try) -> RopeTable | None:
    """What the request's method puts on top of the configuration's scaling for all heads; None: nothing."""
    made = attempt.conversion
    if made is None or made.model is None or not made.method.traits.puts_on_top:
        return None
    shared = made.method.on_top(made.model).without_heads()
    return None if shared.close_to(RopeTable.identity(made.model), rtol=0) else shared


@dataclass(frozen=True, slots=True)
class CheckpointPlan:
    """One conversion of a directory that keeps the scaling its configuration asks for.

    Attributes:
        request: what was asked for; its method is None or one that keeps the scaling.
        config: the configuration.
        declared: the scaling that it asks for.
        weights: the converter's GGUF.
    """

    request: ConvertRequest
    config: HfConfig
    declared: HfRope
    weights: ModelFile

    def prepared(self) -> Prepared:
        """The weights with the plan that agrees with the configuration.

        Raises:
            CheckpointError: no plan does.
            GgufropeError: see ``conversion.plan``.
        """
        if self._changes_scaling():
            return self._changed()
        expected, why_not = self._expected()
        if expected is None:
            return self._done(self._by_name(), f"not compared with config.json: {why_not}")
        refused, nearest = list[str](), None
        for attempt in self._tries(expected):
            if isinstance(attempt, GgufropeError):
                refused.append(str(attempt))
                continue
            seen = self._compare(expected, attempt)
            if seen.agrees:
                return self._done(attempt, str(seen), self._of_stock(expected, attempt))
            nearest = seen if nearest is None or seen.gap < nearest.gap else nearest
        if self.request.read_config_as != TRANSFORMERS:
            return self._done(self._by_name(), f"not compared with config.json: {self._not_run()}")
        why = str(nearest) if nearest else refused[0]
        also = f" ({refused[0].removeprefix(f'{self.weights.path}: ')})" if nearest and refused else ""
        raise CheckpointError(
            f"{self.config.path}: no conversion rotates as it asks for: {why}{also}; --method none takes the "
            "converter's frequencies without scaling, another --method replaces the scaling"
        )

    def _changes_scaling(self) -> bool:
        """Whether the request gives parameters of the scaling, in place of the configuration's."""
        front = {f.name for f in parameters(front_method(self.request.method))} if self.request.method else set()
        given = {k for k, v in self.request.params.items() if v is not None}
        return bool(given - front or self.request.context)

    def _changed(self) -> Prepared:
        inherited = {k: v for k, v in self.declared.params.items() if k != "factor" or self.request.context is None}
        conversion = self._plan(self._composed(), {**inherited, **self._given()}, from_checkpoint=False)
        return self._done(_Try(conversion, decode(EditedSource(conversion.source, conversion.edit))), "")

    def _expected(self) -> tuple[Expected | None, str]:
        """What the configuration makes transformers compute; None, and why not, where nothing can be asked.

        Raises:
            CheckpointError: transformers knows the type of scaling, and cannot run with these settings.
        """
        if self.declared.read_as != TRANSFORMERS:
            return None, self._not_run()
        if self.declared.method and not self.config.knows_rope_type:
            return None, f"transformers has no rope type {self.config.rope['rope_type']!r}"
        try:
            rotary = find_rotary(self.config)
            if rotary is None:
                return None, f"transformers' {type(self.config.text).__name__} has no rotary module to ask"
            expected = Expected(self.config, rotary)
            expected.require_layers(self.weights.decoded)
            expected.compare(self.weights.decoded, (1,))
        except CheckpointError:
            self._by_name()  # our own words, where they say more
            raise
        return expected, ""

    def _not_run(self) -> str:
        return f"read as {self.request.read_config_as} does, which is not run here"

    def _compare(self, expected: Expected, attempt: _Try) -> ComparedRotation:
        decoded = attempt.decoded
        original = int(self.declared.params.get("original_context") or decoded.model.original_ctx)
        if (added := _put_on_top(attempt)) is not None:  # what config.json does not ask for is no difference from it
            decoded = replace(decoded, table=decoded.table * added.inverse)
        return expected.compare(decoded, compared_lengths(decoded.table, original, decoded.context))

    def _of_stock(self, expected: Expected, chosen: _Try) -> str:
        """How far a stock llama.cpp is from the configuration, where only the patched one is right."""
        decoded = chosen.decoded
        if not decoded.needs_patched or _put_on_top(chosen) is not None:
            return ""
        seen = self._compare(expected, replace(chosen, decoded=replace(decoded, table=decoded.stock_table)))
        return f"a stock llama.cpp is up to {seen.gap:.1%} off: {seen.where}" if seen.where else ""

    def _tries(self, expected: Expected) -> Iterator[_Try | GgufropeError]:
        """What might agree, the least change first; an error in the place of one that cannot be planned."""
        if not self._needs_method():
            yield self._as_written()
        plans = [(self.declared.method or PLAIN, self.declared.params, "")]
        computed = self._as_computed(expected) if self.request.read_config_as == TRANSFORMERS else ()
        for name, params, note in [*plans, *computed]:
            for in_windows in (None, True, False) if self.weights.model.has_windows else (None,):
                for keep_keys in (True, False):
                    yield self._try(name, params, note, keep_keys=keep_keys, in_windows=in_windows)

    def _try(self, name: str, params: Mapping[str, Any], note: str, **options: Any) -> _Try | GgufropeError:
        """A plan of a method; ``options`` are those of ``conversion.plan``."""
        try:
            conversion = self._plan(self._composed(name), {**params, **self._given()}, from_checkpoint=True, **options)
        except GgufropeError as error:
            return error
        return _Try(conversion, decode(EditedSource(conversion.source, conversion.edit)), note)

    def _as_computed(self, expected: Expected) -> Iterator[tuple[str, Mapping[str, Any], str]]:
        """Methods with numbers that are transformers' own instead of what follows from the configuration's."""
        model = self.weights.model
        original = int(self.declared.params.get("original_context") or model.original_ctx)
        reach = max(self._reach() or model.train_ctx, original + 1)
        layer = next((i for i in range(model.n_layer) if model.rotates(i) and not model.slides(i)), 0)
        short, long = (expected.rotation(layer, length, model.n_pairs) for length in (original, reach))
        scales = {"attention_factor": long.scale}
        if short.scale != long.scale:
            scales["short_attention_factor"] = short.scale
        named = METHODS.get(self.declared.method or "")
        if named and scales.keys() <= {f.name for f in parameters(named)}:
            note = (
                f"the attention scale is {long.scale:.6g}, which {expected.rotary.name} computes; {named.name}'s "
                "formula gives another"
            )
            yield named.name, {**self.declared.params, **scales}, note
        by_list = next(cls for cls in METHODS.values() if cls.traits.lists)
        plain = model.base_frequencies() / (np.asarray(model.own_factors) if model.own_factors else 1.0)
        lists = (self._list(plain / np.maximum(r.frequencies, 1e-30)) for r in (short, long))
        params = {
            **dict(zip(by_list.traits.lists, lists, strict=True)),
            **scales,
            "original_context": original,
            "factor": max(1.0, reach / original),
        }
        note = (
            f"{expected.rotary.name} computes other frequencies than config.json's {self.declared.kind} stands for; "
            "the file has those that it computes (--read-config-as vllm takes the parameters as they stand)"
        )
        yield by_list.name, params, note

    def _list(self, divisors: NDArray[np.float64]) -> tuple[float, ...]:
        """Divisors as the configuration's own list where they are that to float32."""
        for given in self.declared.params.values():
            if np.shape(given) == divisors.shape and np.allclose(given, divisors, rtol=1e-6, atol=0):
                return tuple(given)
        return tuple(map(float, divisors))

    def _as_written(self) -> _Try:
        """What the converter wrote, with the request's own method on top where there is one."""
        if self.request.method is None and not self.request.require_patched:
            return _Try(None, self.weights.decoded)
        name = self.request.method or self._unchanged_method()
        params = self._given() if self.request.method else self._params_of(name)
        conversion = self._plan(name, params, from_checkpoint=self.request.method is None)
        return _Try(conversion, decode(EditedSource(conversion.source, conversion.edit)))

    def _by_name(self) -> _Try:
        """What the method's formulas make of the configuration's parameters; the converter's own without a method."""
        if self.declared.method is None:
            return self._as_written()
        params = {**self.declared.params, **self._given()}
        conversion = self._plan(self._composed(), params, from_checkpoint=self.request.read_config_as == TRANSFORMERS)
        return _Try(conversion, decode(EditedSource(conversion.source, conversion.edit)))

    def _needs_method(self) -> bool:
        """Whether the converter's file cannot be right whatever its frequencies are."""
        decoded = self.weights.decoded
        chosen_by_allocation = decoded.by_allocated_context and not np.allclose(*decoded.table.factors[:2])
        too_short = (self._reach() or 0) > decoded.context
        return chosen_by_allocation or too_short or bool(self.declared.traits.trained_layer)

    def _reach(self) -> int | None:
        """The context in tokens that the file should have; None: what the converter wrote.

        That is what the scaling reaches, where the configuration says from which context it starts; and at least what
        the configuration has, where the converter wrote another number (GLM's: the width).
        """
        longest = max(self._declared_context() or 0, self._scaled_reach() or 0)
        return longest if longest > self.weights.model.train_ctx else None

    def _declared_context(self) -> int | None:
        """``max_position_embeddings``; None where neither the file nor the class says it."""
        if self.config.general and "max_position_embeddings" not in self.config.raw:
            return None
        declared = getattr(self.config.text, "max_position_embeddings", None)
        return declared if isinstance(declared, int) else None

    def _scaled_reach(self) -> int | None:
        factor, original = (float(self.declared.params.get(k) or 0) for k in ("factor", "original_context"))
        explicit = "original_max_position_embeddings" in {**self.config.raw, **self._raw_rope()}
        if not (factor and original and explicit and self.declared.traits.reaches_factor):
            return None
        return round(factor * original)

    def _raw_rope(self) -> Mapping[str, Any]:
        rope = self.config.raw.get("rope_scaling") or self.config.raw.get("rope_parameters") or {}
        nested = rope.get("full_attention") if isinstance(rope, dict) else None
        return nested if isinstance(nested, dict) else rope if isinstance(rope, dict) else {}

    def _plan(self, name: str, params: Mapping[str, Any], **options: Any) -> Conversion:
        return plan(
            self.weights,
            name,
            params,
            self.request.context,
            require_patched=self.request.require_patched,
            reach=None if self.request.context else self._reach() or self.weights.model.train_ctx,
            of_converter=True,
            **options,
        )

    def _composed(self, base: str | None = None) -> str:
        base = base or self.declared.method or PLAIN
        front = self.request.method
        return base if not front else front if base == PLAIN else f"{front}+{base}"

    def _given(self) -> dict[str, Any]:
        return {k: v for k, v in self.request.params.items() if v is not None}

    def _unchanged_method(self) -> str:
        """The method whose plan leaves a converted file's rotation as it is."""
        kept = self.declared.method is None or bool(self.weights.model.own_factors)
        return PLAIN if kept else self.declared.method or PLAIN

    def _params_of(self, name: str) -> Mapping[str, Any]:
        return self.declared.params if name == self.declared.method else {}

    def _done(self, chosen: _Try, compared: str, stock: str = "") -> Prepared:
        notes = [*self.declared.notes, *([chosen.note] if chosen.note else []), *([stock] if stock else [])]
        before, now = self._declared_context(), chosen.decoded.context
        if before and now > before and now > self.weights.model.train_ctx and not self.request.context:
            notes.append(
                f"config.json's max_position_embeddings leaves the context at {before}; its scaling reaches {now}, and "
                "so does the file"
            )
        elif now == before and now > self.weights.model.train_ctx:
            notes.append(
                f"the context is config.json's, {now}; llama.cpp's converter wrote {self.weights.model.train_ctx}"
            )
        return Prepared(
            self.weights,
            None,
            {},
            tuple(notes),
            temporary=True,
            conversion=chosen.conversion,
            compared=compared,
        )

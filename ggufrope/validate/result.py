"""What a comparison showed, for programs and for people."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ggufrope.validate.position_errors import Bucket
from ggufrope.validate.tolerances import Limits

__all__ = ["ValidationResult"]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """A comparison that ran to its end.

    Attributes:
        file: the GGUF.
        reference: the Hugging Face directory, or the other GGUF.
        method: what the file says it does; ``rotation`` is what the reference computed, in words.
        rotation: see ``method``.
        weights: types of the file's matrices.
        length: positions compared.
        tokens: where the ids came from.
        limits: what the total is held to; None when it is not judged.
        total: errors over all positions.
        buckets: errors by position.
        notes: what a person should know, one sentence each.
        reference_kind: ``pytorch`` or ``gguf``.
        reference_weights: types of a GGUF reference's matrices.
        kv_type: of FILE's KV cache; a GGUF reference's is F32.
        flash_attn: whether FILE's side used it; a GGUF reference's does not.
        methods_differ: whether a GGUF reference rotates differently, on purpose.
        unjudged: why there are no limits.
        declared: what the directory's own configuration asks for, as transformers reads it; empty for a GGUF.
        claimed: what the file claims, and where its method comes from; empty against a GGUF.
        claimed_from: ``name`` (asked for by name) or ``checkpoint``; None where the file has no keys of ggufrope.
        frequency_gap: largest relative difference of a frequency; None where none was compared.
        scale_gap: of an attention scale, likewise.
        compared_at: the lengths in tokens at which they were compared.
        disagreement: what is beyond their limit, or between the file's parameters and its rotation; empty: nothing.
    """

    file: str
    reference: str
    method: str
    rotation: str
    weights: str
    length: int
    tokens: str
    limits: Limits | None
    total: Bucket
    buckets: tuple[Bucket, ...]
    notes: tuple[str, ...] = ()
    reference_kind: str = "pytorch"
    reference_weights: str | None = None
    kv_type: str = "f32"
    flash_attn: bool = False
    methods_differ: bool = False
    unjudged: str = ""
    declared: str = ""
    claimed: str = ""
    claimed_from: str | None = None
    frequency_gap: float | None = None
    scale_gap: float | None = None
    compared_at: tuple[int, ...] = ()
    disagreement: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the limits held; None when there are none. Numbers that are not finite never pass.

        Nor does a file whose frequencies are others, however little of it shows in these tokens.
        """
        if self.disagreement:
            return False
        finite = math.isfinite(self.total.max_abs) and math.isfinite(self.total.mean_kl)
        if self.limits is None or not finite:
            return None if finite else False
        held = (self.limits.max_abs, self.total.max_abs), (self.limits.mean_kl, self.total.mean_kl)
        return all(limit is None or seen <= limit for limit, seen in held)

    @property
    def verdict(self) -> str:
        """One line."""
        seen = f"max |Δ log p| {self.total.max_abs:.1e}, mean KL {self.total.mean_kl:.1e}"
        where = f"over {self.length} positions"
        if self.passed is None:
            return f"not judged: {seen} {where}; {self.unjudged}; --tolerance gives a limit"
        held = "" if self.limits is None else f" (limits: {self._limits(self.limits)})"
        if self.passed:
            return f"passed: {seen} {where}{held}"
        if self.disagreement:
            return f"FAILED: {self.disagreement}; {seen} {where}"
        elsewhere = "" if self.frequency_gap is None else "; the frequencies agree, so it is something else"
        worst = max(self.buckets, key=lambda b: b.max_abs if math.isfinite(b.max_abs) else math.inf)
        return f"FAILED: {seen} {where}{held}; worst at positions {worst.start} to {worst.end - 1}{elsewhere}"

    def _frequencies(self) -> str:
        if self.frequency_gap is None or self.scale_gap is None:
            return "frequencies: not compared, since transformers' class does not say which layer has which"
        at = f"{', '.join(map(str, self.compared_at[:6]))}{', ...' if len(self.compared_at) > 6 else ''} tokens"
        return (
            f"frequencies: largest relative difference {self.frequency_gap:.1e}, of the attention scale "
            f"{self.scale_gap:.1e}, at {at}"
        )

    @staticmethod
    def _limits(limits: Limits) -> str:
        both = [f"{'any' if limit is None else f'{limit:.1e}'}" for limit in (limits.max_abs, limits.mean_kl)]
        return f"{' and '.join(both)}, {limits.name}"

    def as_json(self) -> dict[str, Any]:
        """The fields above with ``passed`` and ``verdict``, NaN and infinity as None; see docs/validation.md."""
        value: dict[str, Any] = _finite({**asdict(self), "passed": self.passed, "verdict": self.verdict})
        return value

    def lines(self) -> list[str]:
        """A table by position, and the verdict last."""
        attention = f"{self.kv_type.upper()} KV cache, flash attention {'on' if self.flash_attn else 'off'}"
        other = f"PyTorch on {self.reference}" if not self.reference_weights else self.reference
        weights = f" ({self.reference_weights})" if self.reference_weights else ""
        out = [
            f"{self.file} ({self.method}, {self.weights}; {attention}) against {other}{weights}",
            *([f"{self.reference} asks for {self.declared}"] if self.declared else []),
            *([f"{self.file} claims {self.claimed}"] if self.claimed else []),
            f"reference: {self.rotation}; tokens: {self.tokens}",
            *([self._frequencies()] if self.reference_kind == "pytorch" else []),
            "",
            f"{'positions':>13}  {'mean KL':>9}  {'max KL':>9}  {'max |Δ|':>9}  top-1",
        ]
        for b in (*self.buckets, self.total):
            name = "all" if b is self.total else f"{b.start}-{b.end - 1}"
            out.append(f"{name:>13}  {b.mean_kl:9.2e}  {b.max_kl:9.2e}  {b.max_abs:9.2e}  {b.top1:6.2%}")
        return [*out, "", *(f"note: {n}" for n in self.notes), self.verdict]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

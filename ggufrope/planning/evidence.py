"""What was published or measured about each method at lengths beyond the trained one. Nothing here is an estimate.

Every record says where its numbers stand; those measured in this project come from its pages, by way of ``measured``.
Lengths are given as multiples of the trained context, so that a person can look up how far their own target is from
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ggufrope.planning.measured import DEMO_FACTS, DEMO_LOSS, STORIES_LOSS

__all__ = ["EVIDENCE", "EvidenceRecord", "evidence_for"]


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One row of somebody's table.

    Attributes:
        method: a method's name in ``METHODS``.
        label: what the source calls it; ``factor`` is the one it was run with, where the source says.
        metric: what was measured, and whether more or less is better.
        model: of what trained length, and whether it was trained further for the method.
        trained: whether the model was trained further with the method.
        source: where the numbers stand.
        values: figure at each multiple of the trained context; at 1 it is the short-context cost.
        plain: the same of the model without scaling, where the source has it.
    """

    method: str
    label: str
    metric: str
    model: str
    trained: bool
    source: str
    values: Mapping[float, float]
    plain: Mapping[float, float]

    @property
    def reach(self) -> float:
        """The largest multiple of the trained context that was looked at."""
        return max(self.values)

    def text(self) -> str:
        """On one line, without the model and the source."""
        shown = ", ".join(f"{n:g}× {self._figure(n)}" for n in self.values)
        return f"{self.label}: {self.metric} at {shown}"

    def _figure(self, n: float) -> str:
        return f"{self.values[n]:g}" + (f" (unscaled {self.plain[n]:g})" if n in self.plain else "")


_PERPLEXITY = "perplexity (less is better)"
_RULER = "RULER score (more is better)"
_LOSS = "nats a token (less is better)"
_RETRIEVAL = "share of facts found (more is better)"
_CLEX_README = "CLEX's README, github.com/DAMO-NLP-SG/CLEX"
_CONTROLLED = "arXiv 2409.12181"
_Table = Mapping[str, Mapping[int, float]]
_TRAINED = 512  # tokens, both models that were measured here
_LLAMA = "Llama 2 7B, trained for 4096 tokens"


def _record(
    method: str,
    label: str,
    kind: tuple[str, str, bool, str],
    values: tuple[float, ...],
    plain: tuple[float, ...] = (),
    start: float = 1,
) -> EvidenceRecord:
    """``values`` at ``start`` times the trained context and each doubling of it."""
    metric, model, trained, source = kind
    steps = [start * 2**i for i in range(len(values))]
    return EvidenceRecord(
        method, label, metric, model, trained, source, dict(zip(steps, values, strict=True)), _at(plain)
    )


def _measured(method: str, label: str, kind: tuple[str, str, str, _Table]) -> EvidenceRecord:
    """The row ``label`` of a table of ours, beside its row without scaling. We trained no model for a method."""
    metric, model, source, table = kind
    about = (method, label, metric, f"{model}, not trained further", False, source)
    return EvidenceRecord(*about, _multiples(table[label]), _multiples(table["none"]))


def _multiples(figures: Mapping[int, float]) -> dict[float, float]:
    """By multiples of the trained context, from lengths in tokens."""
    return {length / _TRAINED: figure for length, figure in figures.items()}


def _at(plain: tuple[float, ...]) -> dict[float, float]:
    return {2.0**i: value for i, value in enumerate(plain)}


_BOOKS = (_PERPLEXITY, f"{_LLAMA}, then on texts of 16k (RedPajama-Book)", True, _CLEX_README)
_BOOKS_PLAIN = (6.04, 20.54)
_TRAINED_32K = (_RULER, f"{_LLAMA}, then on texts of 32k", True, _CONTROLLED)
_FROZEN = (_RULER, f"{_LLAMA}, not trained further", False, _CONTROLLED)
_PROOF = (_PERPLEXITY, f"{_LLAMA}, then trained for 128k; Proof-pile", True, "arXiv 2309.00071")
_OUR_LOSS = (_LOSS, f"demo model ({_TRAINED} tokens)", "docs/length.md", DEMO_LOSS)
_OUR_STORIES = (_LOSS, f"stories260K ({_TRAINED} tokens)", "docs/length.md", STORIES_LOSS)
_OUR_FACTS = (_RETRIEVAL, f"demo model ({_TRAINED} tokens)", "models/demo/README.md", DEMO_FACTS)
_NTK = "NTK-{} (whether fixed or dynamic was not verified here)"

EVIDENCE: tuple[EvidenceRecord, ...] = (
    _record("linear", "PI", _BOOKS, (5.9, 5.71, 5.72, 6.05, 8.75), _BOOKS_PLAIN),
    _record("linear", "PI-32k", _TRAINED_32K, (85, 76, 70, 58)),
    _measured("linear", "linear × 2", _OUR_FACTS),
    _measured("linear", "linear × 4", _OUR_FACTS),
    _record("ntk", _NTK.format("frozen"), _FROZEN, (81, 44, 15, 0.7)),
    _record("ntk", _NTK.format("32k"), _TRAINED_32K, (87, 78, 70, 59)),
    _measured("ntk", "ntk × 8", _OUR_LOSS),
    _measured("ntk", "ntk × 8", _OUR_STORIES),
    _measured("ntk", "ntk × 2", _OUR_FACTS),
    _measured("ntk", "ntk × 4", _OUR_FACTS),
    _record("dynamic-ntk", _NTK.format("frozen"), _FROZEN, (81, 44, 15, 0.7)),
    _record("dynamic-ntk", _NTK.format("32k"), _TRAINED_32K, (87, 78, 70, 59)),
    _measured("dynamic-ntk", "dynamic-ntk", _OUR_LOSS),
    _measured("dynamic-ntk", "dynamic-ntk", _OUR_STORIES),
    _record("yarn", "Yarn-Llama-2-7b-128k", _PROOF, (3.56, 3.04, 2.70, 2.45, 2.37), start=2),
    _record("yarn", "YaRN (s = 16)", _BOOKS, (6.5, 5.71, 5.73, 5.99, 8.51), _BOOKS_PLAIN),
    _record("yarn", "YaRN-32k", _TRAINED_32K, (79, 66, 54, 37)),
    _measured("yarn", "yarn × 8", _OUR_LOSS),
    _measured("yarn", "yarn × 8", _OUR_STORIES),
    _measured("yarn", "yarn × 2", _OUR_FACTS),
    _measured("yarn", "yarn × 4", _OUR_FACTS),
    _measured("yarn --dynamic", "yarn --dynamic", _OUR_LOSS),
    _measured("yarn --dynamic", "yarn --dynamic", _OUR_STORIES),
    _record("clex", "CLEX-LLaMA-2-7B-16K", _BOOKS, (5.88, 5.68, 5.52, 5.55, 5.64), _BOOKS_PLAIN),
    _record("clex", "CLEX-32k", _TRAINED_32K, (50, 64, 64, 52)),
    _measured("ms-poe", "ms-poe 1.2-1.8 on all pairs, in order", _OUR_FACTS),
)


def evidence_for(method: str) -> list[EvidenceRecord]:
    """The records of one method; empty where nothing was published (that this project knows) or measured."""
    return [record for record in EVIDENCE if record.method == method]

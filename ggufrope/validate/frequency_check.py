"""The frequencies that a file makes against those of the reference, number by number: sharper than log-probabilities.

FILE's come from its decoded keys and tensors, the reference's from transformers' rotary modules. They are compared at
the length in use and, where they follow the length, at the end of every row of FILE and where the reference switches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ggufrope.modelfile.decoded import Decoded
from ggufrope.rope.table import HeadRatios
from ggufrope.text import shorten

__all__ = [
    "LIMIT",
    "FrequencyCheck",
    "GivenFactors",
    "RotationAt",
    "Turn",
    "check_frequencies",
    "check_heads",
    "check_points",
]

#: Largest relative difference: transformers computes in float32, to 2e-6; keys of type f32 carry 6e-8.
LIMIT = 1e-5
_STILL = 1e-12  # radians per token: does not turn within any context

#: (frequencies of each pair in radians per token, what multiplies cos and sin)
Turn = tuple[Sequence[float], float]
#: What the reference rotates a text of so many tokens with, by kind of layer (``""``: all); empty: it cannot say.
RotationAt = Callable[[int], Mapping[str, Turn]]


@dataclass(frozen=True, slots=True)
class FrequencyCheck:
    """What a comparison of frequencies showed.

    Attributes:
        frequency: largest relative difference of a pair's frequency; None where none could be compared.
        scale: largest relative difference of an attention scale; None likewise.
        lengths: at which lengths, in tokens.
        gap: the first difference beyond ``LIMIT``, for people; empty when there is none.
    """

    frequency: float | None = None
    scale: float | None = None
    lengths: tuple[int, ...] = ()
    gap: str = ""


@dataclass(frozen=True, slots=True)
class GivenFactors:
    """Divisors and scales that somebody gave, on top of what a reference's modules rotate with.

    Attributes:
        factors: for each layer and KV head one for each pair.
        scales: for each layer.
    """

    factors: Sequence[Sequence[Sequence[float]]]
    scales: Sequence[float]

    def on_top(self, turn: Turn, layer: int, head: int | None) -> Turn:
        """``turn`` with those of a head; pairs beyond its divisors keep their frequency."""
        frequencies, row = np.array(turn[0], np.float64), self.factors[layer][head or 0]
        n = min(len(frequencies), len(row))
        frequencies[:n] /= row[:n]
        return frequencies.tolist(), turn[1] * self.scales[layer]


def check_frequencies(
    decoded: Decoded,
    wanted: RotationAt,
    ends: Iterable[int],
    starts: Iterable[int] = (),
    kinds: Sequence[str] = (),
    given: GivenFactors | None = None,
) -> FrequencyCheck:
    """Compare every layer's frequencies and attention scale, head ratios aside; with ``given``, every head's.

    Args:
        decoded: FILE.
        wanted: the reference.
        ends: lengths at which both are compared.
        starts: lengths at which frequencies alone are compared.
        kinds: the kind of each layer, as the reference names it; empty: all are of one.
        given: divisors and scales that the reference puts on top of what its modules rotate with.
    """
    frequency = scale = -1.0
    gap, seen = "", set[int]()
    ends = set(ends)
    for length in sorted({*ends, *starts}):
        rotations = wanted(length)
        for layer, head in _places(decoded, kinds, given):
            turn = rotations.get("", rotations.get(kinds[layer] if kinds else ""))
            if turn is None:
                continue
            seen.add(length)
            if given is not None:
                turn = given.on_top(turn, layer, head)
            worst, pair, (a, b) = _furthest(_frequencies(decoded, layer, length, head), turn[0])
            if not (worst <= LIMIT or gap):
                of_head = "" if head is None else f" of KV head {head}"
                gap = (
                    f"{_where(layer, length)}: pair {pair}{of_head} turns at {a:.6g} against {b:.6g} radians per token"
                )
            frequency = max(frequency, worst)
            if length in ends:
                of_file = decoded.table.scale(decoded.model, layer, length)
                apart = abs(of_file / turn[1] - 1)
                if not (apart <= LIMIT or gap):
                    gap = f"{_where(layer, length)}: cos and sin are multiplied by {of_file:.6g} against {turn[1]:.6g}"
                scale = max(scale, apart)
    if not seen:
        return FrequencyCheck()
    return FrequencyCheck(frequency, max(scale, 0.0), tuple(sorted(seen)), gap)


def check_points(decoded: Decoded, wanted: Sequence[int]) -> str:
    """In what the lengths at which FILE's rows end differ from those that its parameters ask for; empty: in nothing."""
    of_file = decoded.table.length_points if decoded.table.n_rows > 1 else ()
    if tuple(of_file) == tuple(wanted):
        return ""
    return f"its rows end at {_points(of_file)} tokens, its parameters ask for {_points(wanted)}"


def check_heads(
    decoded: Decoded, wanted: HeadRatios, factors: Callable[[int, Sequence[float]], Sequence[Sequence[float]]]
) -> str:
    """The first factor of a head that is not the one which FILE's parameters ask for; empty: there is none.

    Args:
        decoded: FILE.
        wanted: the ratios that its parameters ask for; empty: none.
        factors: what a layer's ratios come to at each pair of its heads, by the reference; or one number a head.
    """
    table, n_head_kv = decoded.table, decoded.model.n_head_kv
    if not wanted and not table.per_head:
        return ""
    if not table.n_head_kv or [len(row) for row in wanted] != list(n_head_kv):
        layers = len(table.n_head_kv)
        return f"it has head ratios for {layers} layers, its parameters ask for {len(wanted)} of {n_head_kv} KV heads"
    for layer, ratios in enumerate(wanted):
        if not ratios:
            continue
        plain = set(ratios) == {1.0}  # also in layers that rotate other dimensions, which have no factors
        expected = np.ones((len(ratios), 1)) if plain else np.asarray(factors(layer, ratios), np.float64)
        for head, (a, b) in enumerate(zip(table.head_rows(layer), expected, strict=True)):
            apart = np.abs(a / b - 1)
            if not apart.max() <= LIMIT:
                pair = int(apart.argmax())
                mine, theirs = np.broadcast_to(a, apart.shape)[pair], np.broadcast_to(b, apart.shape)[pair]
                where = f"layer {layer}, KV head {head}" + (f", pair {pair}" if len(apart) > 1 else "")
                return f"{where}: its ratio is {mine:.6g}, its parameters ask for {theirs:.6g}"
    return ""


def _places(decoded: Decoded, kinds: Sequence[str], given: GivenFactors | None) -> Iterable[tuple[int, int | None]]:
    """Layers that stand for all of their kind; with ``given``, each head of each that rotates."""
    model = decoded.model
    if given is None:
        return [(layer, None) for layer in _layers(decoded, kinds)]
    known = range(min(model.n_layer, len(kinds)) if kinds else model.n_layer)
    return [(layer, head) for layer in known if model.rotates(layer) for head in range(model.n_head_kv[layer])]


def _layers(decoded: Decoded, kinds: Sequence[str]) -> Iterable[int]:
    """One rotating layer of each kind, by the reference's word for it and by whether FILE has a window there."""
    model, seen = decoded.model, set[tuple[str, bool]]()
    for layer in range(min(model.n_layer, len(kinds)) if kinds else model.n_layer):
        kind = kinds[layer] if kinds else "", model.slides(layer)
        if model.rotates(layer) and kind not in seen:
            seen.add(kind)
            yield layer


def _frequencies(decoded: Decoded, layer: int, length: int, head: int | None) -> npt.NDArray[np.float64]:
    if head is None:
        return decoded.table.without_heads().frequencies(decoded.model, layer, length=length)
    return decoded.table.frequencies(decoded.model, layer, head, length)


def _furthest(file: npt.NDArray[np.float64], reference: Sequence[float]) -> tuple[float, int, tuple[float, float]]:
    """Relative difference, index and values of the pair that differs most; pairs that one of them lacks stand still."""
    both = np.zeros((2, max(len(file), len(reference))))
    both[0, : len(file)], both[1, : len(reference)] = file, reference
    both[both < _STILL] = 0
    apart = np.abs(both[0] - both[1]) / np.maximum(both.max(axis=0), _STILL)
    pair = int(apart.argmax())
    return float(apart[pair]), pair, (float(both[0, pair]), float(both[1, pair]))


def _where(layer: int, length: int) -> str:
    return f"layer {layer} at {length} tokens"


def _points(points: Sequence[int]) -> str:
    return shorten(list(points)) if points else "no length (one for all)"

"""Whether a GGUF rotates as transformers computes it for the checkpoint: every type of layer, short and long texts.

"Agrees" is said of nothing else: what the keys make a runtime compute stands on the one side, what transformers' own
module answers on the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ggufrope.convert.hf_config import HfConfig
from ggufrope.convert.hf_rotary import HfRotary, LayerRotation
from ggufrope.errors import CheckpointError
from ggufrope.modelfile.decoded import Decoded
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable

__all__ = ["ComparedRotation", "Expected", "compared_lengths"]

#: transformers computes in float32; its powers and YaRN's mixtures carry up to 2e-6.
_RTOL = 2e-5
_ATOL = 1e-12  # radians per token: a pair that does not turn
_MOST_LENGTHS = 8


@dataclass(frozen=True, slots=True)
class ComparedRotation:
    """What a comparison showed.

    Attributes:
        against: what the file was compared with.
        n_layers: how many layers, those that do not rotate left out.
        lengths: the texts' lengths, in tokens.
        gap: the largest relative difference of a frequency or an attention scale.
        where: in words, where it is; empty where the gap is within float32.
    """

    against: str
    n_layers: int
    lengths: tuple[int, ...]
    gap: float
    where: str

    @property
    def agrees(self) -> bool:
        """Whether every number is the same to float32."""
        return not self.where

    def __str__(self) -> str:
        """A clause: what agrees with what, or where it does not."""
        if not self.agrees:
            return f"{self.where}, as {self.against} computes it"
        lengths = ", ".join(map(str, self.lengths))
        layers = "1 layer" if self.n_layers == 1 else f"{self.n_layers} layers"
        return (
            f"frequencies and attention scale of {layers} agree with config.json as {self.against} computes it, for "
            f"texts of {lengths} tokens (largest difference {self.gap:.0e})"
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What a checkpoint's configuration makes transformers rotate by."""

    config: HfConfig
    rotary: HfRotary

    def rotation(self, layer: int, length: int, n_pairs: int) -> LayerRotation:
        """Of one layer, in texts of ``length`` tokens; see ``HfRotary.rotation``."""
        return self.rotary.rotation(self._type(layer), length, n_pairs)

    def require_layers(self, file: Decoded) -> None:
        """Refuse a file that rotates other layers than the configuration, or gives others a window.

        llama.cpp has the places of such layers fixed for most architectures, whatever ``config.json`` says.

        Raises:
            CheckpointError: it does.
        """
        model, layers = file.model, range(min(file.model.n_layer, getattr(self.config.text, "num_hidden_layers", 0)))
        questions = [("rotate", self.config.rotates, model.rotates)]
        if model.has_windows:
            questions.append(("have a sliding window", self.config.slides, model.slides))
        for what, asked, does in questions:
            wrong = [layer for layer in layers if asked(layer) not in (None, does(layer))]
            if wrong:
                theirs, mine = ([layer for layer in layers if has(layer)] for has in (asked, does))
                raise CheckpointError(
                    f"{self.config.path}: layers {_listed(theirs)} {what}; in llama.cpp's {model.arch} layers "
                    f"{_listed(mine)} do, which no scaling mends; --method none takes it as the converter writes it"
                )

    def compare(self, file: Decoded, lengths: tuple[int, ...]) -> ComparedRotation:
        """Compare what ``file`` makes the patched runtime compute, the ratios of heads aside.

        Args:
            file: what the keys say.
            lengths: of texts, in tokens.

        Raises:
            CheckpointError: the configuration's module cannot be run.
        """
        worst, where, seen = 0.0, "", {}
        layers = [layer for layer in range(file.model.n_layer) if file.model.rotates(layer)]
        for layer in layers:
            kind = (self._type(layer), file.model.slides(layer))
            if kind not in seen:
                seen[kind] = [self._gap(file, layer, length) for length in lengths]
                for gap, words in seen[kind]:
                    worst, where = max((worst, where), (gap, words))
        gap, words = self._attention_gap(file)
        worst, where = max((worst, where), (gap, words))
        against = self.rotary.name if not self.config.read_as else f"{self.rotary.name} ({self.config.read_as})"
        return ComparedRotation(against, len(layers), lengths, worst, where if worst > _RTOL else "")

    def _type(self, layer: int) -> str:
        types = self.rotary.layer_types
        mine = self.config.layer_type(layer)
        return mine if mine in types or not types else types[0]

    def _attention_gap(self, file: Decoded) -> tuple[float, str]:
        mine, theirs = file.stock.attention_multiplier(file.model.arch), self.rotary.attention
        return abs(mine / theirs - 1), f"the attention multiplies q·k by {mine:.6g} instead of {theirs:.6g}"

    def _gap(self, file: Decoded, layer: int, length: int) -> tuple[float, str]:
        mine = file_rotation(file.table.without_heads(), file.model, layer, length)
        try:
            theirs = self.rotation(layer, length, len(mine.frequencies))
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.config.path}: {error}; --method none takes the converter's rotation"
            ) from None
        wrong = np.abs(mine.frequencies - theirs.frequencies)
        gaps = np.where(wrong <= _ATOL, 0.0, wrong / np.maximum(theirs.frequencies, _ATOL))
        pair, scale = int(gaps.argmax()), abs(mine.scale / theirs.scale - 1)
        if scale > gaps[pair]:
            return scale, (
                f"layer {layer} multiplies cos and sin by {mine.scale:.6g} instead of {theirs.scale:.6g} in texts of "
                f"{length} tokens"
            )
        return float(gaps[pair]), (
            f"pair {pair} of layer {layer} turns by {mine.frequencies[pair]:.6g} radians per token instead of "
            f"{theirs.frequencies[pair]:.6g} in texts of {length} tokens"
        )


def _listed(layers: list[int]) -> str:
    shown = [str(layer) for layer in layers]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:10], "..."]) or "(none)"


def file_rotation(table: RopeTable, model: ModelRope, layer: int, length: int) -> LayerRotation:
    """How a file's table rotates one layer of its model, in texts of ``length`` tokens."""
    return LayerRotation(table.frequencies(model, layer, length=length), table.scale(model, layer, length))


def compared_lengths(table: RopeTable, original: int, reach: int) -> tuple[int, ...]:
    """Lengths that tell a table's rows and the configuration's apart: short, at each row's end, and the longest.

    Between two points a table by length has the later one's row, and methods that follow the length smoothly differ
    there by design (docs/length.md); so those are compared at their points.

    Args:
        table: the file's.
        original: the context before scaling, in tokens.
        reach: the context that the file has.
    """
    return tuple(sorted(_lengths(table, original, reach)))


def _lengths(table: RopeTable, original: int, reach: int) -> Iterator[int]:
    points = table.length_points if table.n_rows > 1 else (original, original + 1, reach)
    step = max(1, -(-(len(points) - 1) // (_MOST_LENGTHS - 2)))
    yield from {1, max(1, min(points) // 2), *points[::step], points[-1]}

"""A GGUF as a PyTorch model that holds one layer at a time, differentiable in the factors of its frequency table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.gguf import keys
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.reference.attention_hooks import RotaryCall, decoder_layers
from ggufrope.reference.rotary import rotaries
from ggufrope.tune.gradient.described_class import REMEDY, describe
from ggufrope.tune.gradient.memory_need import KEEP_BYTES, give_back_freed
from ggufrope.tune.gradient.packed_attention import PACKED
from ggufrope.tune.gradient.packing import Packable, PackableQuestion, PackedText, pack
from ggufrope.tune.gradient.stored_parameters import StoredParameters
from ggufrope.tune.gradient.streamed_layer import Pass, StreamedLayer, TurnedLayer
from ggufrope.tune.gradient.vocabulary_chunks import log_probs_and_margins

__all__ = ["StreamedModel", "TorchReading"]


@dataclass(frozen=True, slots=True)
class TorchReading:
    """How likely a right answer is, differentiably.

    Attributes:
        log_probs: of its tokens, each behind the right ones before it, ``(n_answer,)``.
        margins: what they have more than the likeliest other token, ``(n_answer,)``.
    """

    log_probs: Tensor
    margins: Tensor


class StreamedModel:
    """The model in a file. Memory is one layer's floats (a small model's all), a text's activations, and the table.

    Attributes:
        file: the file.
        shapes: KV heads and pairs of each layer.
        size: of all pair factors together, in the order of ``ggufrope_get_pair_factors``.
        device: where it computes.
        dtype: of weights and activations. Frequencies and angles are in float32 as in transformers, the table in
            float64.
    """

    def __init__(self, file: ModelFile, *, device: str = "cpu", dtype: str = "float32", keep: int = KEEP_BYTES) -> None:
        """Describe the model; weights are read with the first text.

        Args:
            file: a GGUF file, single or split, of any type, converted by ggufrope or not.
            device: ``cpu``, ``cuda``, ``mps``, as torch calls them.
            dtype: ``float32``, ``bfloat16`` or ``float64``.
            keep: bytes; weights of a model that takes no more stay in memory once they were dequantized.

        Raises:
            UnsupportedModelError: transformers has no class for the architecture, or its class cannot be given a table.
        """
        give_back_freed()
        self.file, self.device, self.dtype = file, torch.device(device), getattr(torch, dtype)
        self._model = file.decoded.model
        self.shapes = tuple((heads, self._model.n_pairs_of(layer)) for layer, heads in enumerate(self._model.n_head_kv))
        self.size = sum(heads * pairs for heads, pairs in self.shapes)
        described = describe(file)
        self._causal = described.model
        self._decoder = self._causal.get_decoder()
        self._stored = StoredParameters(file, described, self.device, self.dtype, keep)
        self._pass: Pass | None = None
        self._rows: dict[int, list[Tensor]] = {}
        self._proved = False
        self._stream()

    def read(self, text: Packable, log_factors: Tensor) -> list[TorchReading]:
        """How likely each question's right answer is.

        All questions are read in one pass, where they are of one row of a table that follows the length and every layer
        has attention: recurrent ones and convolutions would read one question behind the other.

        Args:
            text: the prefix, once, and what each question has behind it.
            log_factors: ``(size,)``: each pair turns by the file's factor times ``exp`` of them slower. With
                ``requires_grad`` readings can be differentiated.

        Raises:
            ParameterError: another number of factors.
            UnsupportedModelError: transformers' class does not do what is asked of it.
        """
        if log_factors.shape != (self.size,):
            raise ParameterError(f"log factors {tuple(log_factors.shape)}; the model has ({self.size},)")
        table = self.file.decoded.table
        numbered = sorted(
            (table.row(len(text.prefix) + len(q.tokens) + len(q.answer)), place)
            for place, q in enumerate(text.questions)
        )
        found: dict[int, TorchReading] = {}
        for row, members in groupby(numbered, key=lambda pair: pair[0]):
            places = [place for _, place in members]
            for together in [places] if self._packs else [[place] for place in places]:
                readings = self._read(text.prefix, [text.questions[place] for place in together], row, log_factors)
                found |= dict(zip(together, readings, strict=True))
        return [found[place] for place in range(len(text.questions))]

    def _read(
        self, prefix: Sequence[int], questions: Sequence[PackableQuestion], row: int, log_factors: Tensor
    ) -> list[TorchReading]:
        packed = pack(prefix, questions, self.device)
        window = self._window()
        masks = packed.mask(), packed.mask(window)
        hidden = self._hidden(packed, Pass(masks, self._rotations(row, log_factors)))
        rows, answers = torch.cat(packed.rows), torch.cat(packed.answers)
        both = log_probs_and_margins(hidden[rows], answers, self._logits, self._stored.n_vocab)
        parts = [len(one) for one in packed.answers]
        return [TorchReading(*pair) for pair in zip(*(values.split(parts) for values in both), strict=True)]

    def _window(self) -> int | None:
        return self.file.get(keys.stock(keys.SLIDING_WINDOW, self._model.arch)) if self._model.has_windows else None

    def _hidden(self, packed: PackedText, now: Pass) -> Tensor:
        """What the decoder gives to its output layer, ``(n, n_embd)``."""
        self._pass = now
        try:
            with self._stored.embeddings(packed.tokens) as renumbered:
                done = self._decoder(input_ids=renumbered[None], position_ids=packed.positions[None], use_cache=False)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            if self._proved:
                raise
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UnsupportedModelError(
                f"{self.file.path}: transformers' class does not run ({said}); {REMEDY}"
            ) from None
        finally:
            self._pass = None
        self._prove(now)
        return done[0][0]

    def _prove(self, now: Pass) -> None:
        """Raise UnsupportedModelError unless every layer that has frequencies has rotated by them."""
        wanted = {index for index, rotation in enumerate(now.rotations) if rotation is not None}
        if now.rotated != wanted:
            layers = ", ".join(map(str, sorted(wanted ^ now.rotated)[:4]))
            raise UnsupportedModelError(
                f"{self.file.path}: layers {layers} do not rotate by transformers' function; {REMEDY}"
            )
        self._proved = True

    def _rotations(self, row: int, log_factors: Tensor) -> list[TurnedLayer | None]:
        """Of each layer: the file's frequencies of a row, divided by the factors."""
        points = self.file.decoded.table.length_points
        length = points[row] if points else None
        found: list[TurnedLayer | None] = []
        parts = log_factors.to(torch.float64).split([heads * pairs for heads, pairs in self.shapes])
        for layer, part in enumerate(parts):
            if not self._model.rotates(layer):
                found.append(None)
                continue
            table = self.file.decoded.table
            of_file = torch.from_numpy(
                np.stack([table.frequencies(self._model, layer, h, length) for h in range(self.shapes[layer][0])])
            )
            factors = torch.exp(part).reshape(self.shapes[layer])
            scale = table.scale(self._model, layer, length)
            found.append(TurnedLayer((of_file.to(part.device) / factors).to(self.device), scale))
        return found

    def _logits(self, hidden: Tensor, part: slice) -> Tensor:
        """Of a part of the vocabulary, caps and scales of the class included, ``(n, part)``."""
        with self._stored.output_rows(part), _given(self._causal, self._decoder, hidden):
            return self._causal(input_ids=None, use_cache=False).logits[0]

    def _stream(self) -> None:
        """Have layers read their weights when they run, and note what rotary modules are asked."""
        layers = decoder_layers(self._causal)
        self._stored.rest(self._causal, layers)
        kinds = tuple(getattr(self._decoder.config, "layer_types", None) or ())
        streamed = []
        for index, layer in enumerate(layers):
            load = self._stored.layer(layer)
            kind = kinds[index] if kinds else ""
            streamed.append(StreamedLayer(layer, index, kind, self._model.slides(index), load, self._current))
        self._packs = all(layer.attends for layer in streamed)
        if all(layer.packed for layer in streamed):
            self._causal.config._attn_implementation = self._decoder.config._attn_implementation = PACKED
        else:
            for layer in streamed:
                layer.packed = False
        for index, layer in enumerate(streamed):
            layers[index] = layer
        for rotary in rotaries(self._causal):
            rotary.module.register_forward_hook(self._remember, with_kwargs=True)

    def _current(self) -> Pass:
        if self._pass is None:
            raise RuntimeError("a streamed layer runs within StreamedModel.read alone")
        return self._pass

    def _remember(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
        call = RotaryCall.of(module, args, kwargs)
        self._current().calls[call.rotary.kind] = call


class _Given(nn.Module):  # type: ignore[misc]  # torch is skipped by mypy
    """Stands for a decoder whose answer is known."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return None  # no attentions, router logits, cache

    def __getitem__(self, _place: int) -> Tensor:
        return self.last_hidden_state

    def forward(self, *_args: Any, **_kwargs: Any) -> _Given:
        return self


@contextmanager
def _given(causal: Any, decoder: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Within, the decoder of ``causal`` answers ``hidden``, ``(n, n_embd)``, whatever it is asked."""
    name = next(name for name, module in causal.named_children() if module is decoder)
    causal._modules[name] = _Given(hidden[None])
    try:
        yield
    finally:
        causal._modules[name] = decoder

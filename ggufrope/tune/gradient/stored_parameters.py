"""The parameters of transformers' class, from the tensors of a file: a layer's, rows of tables, the few others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ggufrope.errors import UnsupportedModelError
from ggufrope.gguf import keys
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.gradient.described_class import REMEDY, DescribedClass
from ggufrope.tune.gradient.stored_weights import StoredWeights

__all__ = ["StoredParameters"]


class StoredParameters:
    """Values for a described class.

    Attributes:
        n_vocab: rows of the output matrix.
    """

    def __init__(
        self, file: ModelFile, described: DescribedClass, device: torch.device, dtype: torch.dtype, keep: int = 0
    ) -> None:
        """Find out which tensor is which parameter.

        Args:
            file: the model.
            described: its class.
            device: of the values.
            dtype: of the values.
            keep: bytes; where all values take no more, they are kept once they were read.

        Raises:
            UnsupportedModelError: parameters that no tensor belongs to.
        """
        self._file, self._described, self._device, self._dtype = file, described, device, dtype
        self._weights = StoredWeights(file)
        self._sources: dict[str, list[str]] = {}
        for tensor, parameter in described.names.items():
            stored = tensor if tensor in self._weights else tensor + keys.SUFFIX  # experts have no suffix there
            if stored in self._weights:
                self._sources.setdefault(parameter, []).append(stored)
        self._modules = {id(module): name for name, module in described.model.named_modules()}
        self._shapes = {name: value.shape for name, value in described.model.state_dict().items()}
        self._output = keys.OUTPUT if keys.OUTPUT in self._weights else keys.TOKEN_EMBEDDING
        self.n_vocab = self._weights.shape(self._output)[0]
        self._embeddings = [m for m in described.model.get_decoder().modules() if isinstance(m, nn.Embedding)]
        numbers = sum(prod(self._weights.shape(name)) for name in self._weights.names)
        self._keeps, self._kept = numbers * dtype.itemsize <= keep, dict[str, Tensor]()
        self._require(described.model)

    def layer(self, layer: nn.Module) -> Callable[[], dict[str, Tensor]]:
        """What reads the parameters of ``layer``, under their names in it."""
        prefix = self._modules[id(layer)]
        own = [name for name, _ in layer.named_parameters()]
        own += [name for name, _ in layer.named_buffers() if f"{prefix}.{name}" in self._sources]
        return lambda: {name: self._once(f"{prefix}.{name}") for name in own}

    def _once(self, parameter: str) -> Tensor:
        if not self._keeps:
            return self._value(parameter)
        if parameter not in self._kept:
            self._kept[parameter] = self._value(parameter)
        return self._kept[parameter]

    def rest(self, causal: Any, layers: nn.Module) -> None:
        """Give the class what belongs to no layer and no table of the vocabulary: small, and kept."""
        tables = {self._table(module) for module in (*self._embeddings, causal.get_output_embeddings())}
        for prefix, module in list(causal.named_modules()):
            if prefix.startswith(self._modules[id(layers)]):
                continue
            for own in [name for name, _ in module.named_parameters(recurse=False)]:
                name = f"{prefix}.{own}".lstrip(".")
                if name not in tables:
                    _put(module, own, self._value(name))

    @contextmanager
    def embeddings(self, tokens: Tensor) -> Iterator[Tensor]:
        """Within, tables of the vocabulary have these tokens' rows alone; yields the tokens as numbers of rows."""
        found, renumbered = torch.unique(tokens, return_inverse=True)
        rows = found.tolist()
        for module in self._embeddings:
            module.padding_idx = None
            (tensor,) = self._sources[self._table(module)]
            _put(module, "weight", self._torch(self._weights.rows(tensor, rows)))
        yield renumbered

    @contextmanager
    def output_rows(self, part: slice) -> Iterator[None]:
        """Within, the output layer is that of a part of the vocabulary."""
        head = self._described.model.get_output_embeddings()
        whole = head._parameters["weight"]
        name = f"{part.start}:{part.stop}"
        rows = self._kept[name] if name in self._kept else self._torch(self._weights.rows(self._output, part))
        if self._keeps:
            self._kept[name] = rows
        _put(head, "weight", rows)
        bias = head._parameters.get("bias")
        if bias is not None:
            _put(head, "bias", bias[part])
        try:
            yield
        finally:
            head._parameters["weight"] = whole
            if bias is not None:
                head._parameters["bias"] = bias

    def _table(self, module: nn.Module) -> str:
        return str(self._modules[id(module)]) + keys.SUFFIX

    def _value(self, parameter: str) -> Tensor:
        """A parameter, as the class has it."""
        out: dict[str, dict[str, Tensor]] = {"tensors": {}}
        value: Any = None
        for tensor in self._sources[parameter]:
            done = self._described.processor.process(
                weights=self._weights.floats(tensor),
                name=tensor,
                tensor_key_mapping=self._described.names,
                parsed_parameters=out,
            )
            value = done.weights if done.name is not None else out["tensors"][parameter]
        shape = self._shapes[parameter]
        if prod(value.shape) != prod(shape):
            raise UnsupportedModelError(
                f"{self._file.path}: {self._sources[parameter][0]} has {prod(value.shape)} numbers, transformers' "
                f"class has {tuple(shape)}; {REMEDY}"
            )
        return self._torch(value).reshape(shape)

    def _torch(self, values: Any) -> Tensor:
        whole = values if isinstance(values, Tensor) else torch.from_numpy(np.require(values, requirements=["C", "W"]))
        return whole.to(self._device, self._dtype)

    def _require(self, causal: Any) -> None:
        """Raise UnsupportedModelError unless every parameter has a tensor."""
        head = self._table(causal.get_output_embeddings())
        names = (name for name, _ in causal.named_parameters() if name != head)
        missing = [name for name in names if name not in self._sources]
        if missing:
            raise UnsupportedModelError(
                f"{self._file.path}: transformers' class has a weight '{missing[0]}' that no tensor of the file is "
                f"({len(missing)} such); {REMEDY}"
            )


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    module._parameters[name] = nn.Parameter(value, requires_grad=False)

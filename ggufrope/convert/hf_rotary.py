"""How transformers rotates a configuration: its own rotary module, run on the CPU, without weights.

The model is built on torch's ``meta`` device, where nothing is allocated; the rotary module that it uses is built once
more on the CPU and asked for cos and sin. What it answers at positions 0 and 1 says all: a pair's angle at 1 is its
frequency, the length of (cos, sin) is the attention scale. So nothing has to be known of how a class computes either.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ggufrope.convert.hf_config import HfConfig, quiet_transformers
from ggufrope.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HfRotary", "LayerRotation", "find_rotary"]


@dataclass(frozen=True, slots=True, eq=False)
class LayerRotation:
    """How one type of layer rotates texts of one length.

    Attributes:
        frequencies: radians per token of each pair, ``(n_pairs,)``; a pair that does not turn has 0.
        scale: what cos and sin are multiplied by.
    """

    frequencies: NDArray[np.float64]
    scale: float


@dataclass(frozen=True, slots=True)
class HfRotary:
    """transformers' rotary module of a configuration.

    Attributes:
        kind: the module's class.
        config: what it is built with.
        layer_types: the types of layers that it tells apart; empty where all layers rotate alike.
        attention: what the attention multiplies q·k by beside 1/√(head size) and the rotation: DeepSeek's models have
            a factor there that follows YaRN's.
    """

    kind: type
    config: Any
    layer_types: tuple[str, ...]
    attention: float = 1.0

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return f"transformers' {self.kind.__name__}"

    def rotation(self, layer_type: str, length: int, n_pairs: int) -> LayerRotation:
        """How layers of a type rotate texts of ``length`` tokens.

        Args:
            layer_type: such as ``full_attention``; without meaning where the module does not tell types apart.
            length: tokens, at least 1.
            n_pairs: rotated pairs of a head, by which the layout of cos and sin is told apart.

        Raises:
            CheckpointError: the module does not run with this configuration, or answers something of another shape.
        """
        import torch

        positions = torch.tensor([[0, 1, max(length - 1, 1)]]) if length > 1 else torch.tensor([[0, 1]])
        try:
            with torch.no_grad(), quiet_transformers():
                # a new one each time: some keep the frequencies of the longest text that they saw
                module = self.kind(config=copy.deepcopy(self.config))
                answer = module(torch.zeros(1, 1, 1), positions, *((layer_type,) if self.layer_types else ()))
        except Exception as error:  # a module may fail in any way on settings that nobody tried
            raise CheckpointError(
                f"{self.name} cannot run with it ({type(error).__name__}: {error}); correct config.json"
            ) from None
        cos, sin = (answer.real, answer.imag) if isinstance(answer, torch.Tensor) else answer
        if not (torch.isfinite(cos).all() and torch.isfinite(sin).all()):
            raise CheckpointError(f"{self.name} computes angles from it that are no numbers; correct config.json")
        found = _rotation(_rows(cos, n_pairs, self.name), _rows(sin, n_pairs, self.name))
        if not found.scale > 0:
            raise CheckpointError(f"{self.name} multiplies cos and sin by {found.scale:g}; correct config.json")
        return found


def find_rotary(config: HfConfig) -> HfRotary | None:
    """The rotary module of a configuration's model; None where its class has none that could be asked.

    Raises:
        CheckpointError: transformers has no text model for it, or cannot build one of these settings.
    """
    import torch

    model_class, auto = _text_model(config)
    try:
        with torch.device("meta"), quiet_transformers():
            modules = list(auto.from_config(copy.deepcopy(config.text)).modules())
        found = [(type(m), m.config) for m in modules if _rotates(m)]
        attention = next((a for m in modules if (a := _attention(m))), 1.0)
    except Exception as error:  # a class may fail on settings that nobody tried, also on such as are not about RoPE
        found, attention = [(kind, config.text) for kind in _rotary_classes(model_class)], 1.0
        if len(found) != 1:
            raise CheckpointError(
                f"{config.path}: transformers cannot build the model that it describes "
                f"({type(error).__name__}: {error}); mend its settings, or give --method to set the scaling yourself"
            ) from None
    if not found:
        return None
    kind, settings = found[0]
    if "layer_type" not in inspect.signature(kind.forward).parameters:
        return HfRotary(kind, settings, (), attention)
    types = dict.fromkeys(getattr(config.text, "layer_types", None) or config.rope_by_layer_type)
    return HfRotary(kind, settings, tuple(types), attention)


def _text_model(config: HfConfig) -> tuple[type, Any]:
    """The text model's class, and which of transformers' ``Auto`` classes builds it."""
    from transformers import AutoModel, AutoModelForCausalLM

    for auto in (AutoModelForCausalLM, AutoModel):
        if type(config.text) in auto._model_mapping:  # there is no public way to ask
            found = auto._model_mapping[type(config.text)]
            return (found[0] if isinstance(found, tuple) else found), auto
    raise CheckpointError(
        f"{config.path}: transformers has no text model for {type(config.text).__name__}; give --method to set the "
        "scaling yourself"
    )


def _rotates(module: Any) -> bool:
    return _names_rotary(type(module)) and getattr(module, "config", None) is not None


def _attention(module: Any) -> float | None:
    """What a module of multi-head latent attention multiplies q·k by, beside 1/√(head size); None for any other."""
    scaling, size = getattr(module, "scaling", None), getattr(module, "qk_head_dim", None)
    return float(scaling * math.sqrt(size)) if isinstance(scaling, float) and isinstance(size, int) else None


def _names_rotary(kind: type) -> bool:
    return "RotaryEmbedding" in kind.__name__ and "Vision" not in kind.__name__


def _rotary_classes(model_class: type) -> list[Any]:
    """The rotary modules that stand beside a model's class."""
    beside = vars(importlib.import_module(model_class.__module__)).values()
    return list(dict.fromkeys(c for c in beside if isinstance(c, type) and _names_rotary(c)))


def _rows(values: Any, n_pairs: int, name: str) -> NDArray[np.float64]:
    """Cosine or sine of each pair at positions 0 and 1, ``(2, n_pairs)``, whatever the layout."""
    flat = values.double().numpy()
    flat = flat.reshape(-1, *flat.shape[-2:])[0][
        :2
    ]  # of several position sections of a text, which are alike, the first
    if flat.shape[-1] == n_pairs:
        return np.asarray(flat)
    if flat.shape[-1] != 2 * n_pairs:
        raise CheckpointError(
            f"{name} rotates {flat.shape[-1] // 2} pairs of each head, the file {n_pairs}; correct config.json"
        )
    interleaved = np.array_equal(flat[:, 0::2], flat[:, 1::2])
    return np.asarray(flat[:, 0::2] if interleaved else flat[:, :n_pairs])


def _rotation(cos: NDArray[np.float64], sin: NDArray[np.float64]) -> LayerRotation:
    frequencies: Sequence[float] = np.arctan2(sin[1], cos[1])
    return LayerRotation(np.asarray(frequencies, dtype=np.float64), float(np.hypot(cos[0], sin[0]).max()))

"""Makes tiny random models of transformers' classes, with vocabularies, as Hugging Face directories."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toy_vocabularies import VOCAB_SIZE, write_vocabulary

__all__ = ["Toy", "build", "model_class"]

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.13,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Toy:
    """A toy.

    Attributes:
        name: ``model_type``, or a variant's name.
        stem: of transformers' classes: ``LlamaConfig``, ``LlamaForCausalLM``.
        settings: on top of ``SIZES``; None takes a setting away.
        vocabulary: ``bpe``, ``spm`` or ``hf``, see ``toy_vocabularies``.
        vision: settings of an image encoder; with them the text model's are its ``text_config``.
        plain: the experts write nothing and the residual stream has no mean. For PhiMoE, whose layer norms llama.cpp
            takes for RMS norms and whose routing (sparsemixer) for softmax: both are the same then.
        options: of ``convert``, which every case of the toy needs.
        written: what ``config.json`` has otherwise than transformers writes it.
    """

    name: str
    stem: str
    settings: dict[str, Any] = field(default_factory=dict)
    vocabulary: str = "bpe"
    vision: dict[str, Any] | None = None
    plain: bool = False
    options: tuple[str, ...] = ()
    written: dict[str, Any] = field(default_factory=dict)

    @property
    def pairs(self) -> int:
        """Pairs of a head that turn."""
        settings = SIZES | self.settings
        head = settings.get("head_dim") or settings.get("qk_rope_head_dim")
        head = head or settings["hidden_size"] // settings["num_attention_heads"]
        part = settings.get("partial_rotary_factor") or settings.get("rotary_pct") or 1.0
        return int(settings.get("rotary_dim") or head * part) // 2


def model_class(toy: Toy) -> Any:
    """Transformers' class of the whole model."""
    import transformers

    return getattr(transformers, f"{toy.stem}For{'CausalLM' if toy.vision is None else 'ConditionalGeneration'}")


def _config(toy: Toy, settings: dict[str, Any]) -> Any:
    import transformers

    if toy.vision is not None:
        return getattr(transformers, f"{toy.stem}Config")(
            text_config=settings, vision_config=toy.vision, tie_word_embeddings=False
        )
    name = f"{toy.stem}TextConfig" if hasattr(transformers, f"{toy.stem}TextConfig") else f"{toy.stem}Config"
    return getattr(transformers, name)(**settings)


def _make_plain(model: Any) -> None:
    for name, value in model.named_parameters():
        if "experts" in name and "down" in name:
            value.zero_()
        elif "embed_tokens" in name:
            value.sub_(value.mean(1, keepdim=True))
        elif "o_proj" in name:
            value.sub_(value.mean(0, keepdim=True))


def build(toy: Toy, folder: Path) -> Path:
    """Write the toy to ``folder`` as transformers does, with a vocabulary."""
    import torch

    torch.manual_seed(len(toy.name))
    settings = {k: v for k, v in (SIZES | toy.settings).items() if v is not None or k == "sliding_window"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_class(toy)(_config(toy, settings))
        with torch.no_grad():
            for value in (p for p in model.parameters() if p.dim() == 1):  # norms start as 1, biases as 0
                value.add_(0.2 * torch.randn_like(value))
            if toy.plain:
                _make_plain(model)
        model.save_pretrained(folder)
    write_vocabulary(toy.vocabulary, folder)
    path = folder / "config.json"
    outside = {k: v for k, v in toy.settings.items() if k == "partial_rotary_factor"}  # as published files have it
    path.write_text(json.dumps(json.loads(path.read_text()) | outside | toy.written))
    return folder

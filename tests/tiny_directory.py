"""Small random Hugging Face directories of any class of transformers, as the pinned converter takes them.

The converter knows tokenizers by a hash of what they make of a text; that of a made-up vocabulary is not among them. So
``converter_that_takes_any_vocabulary`` gives its process a ``sitecustomize.py`` that answers for it.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["any_vocabulary", "directory", "log_probs"]

DEMO = Path(__file__).resolve().parents[1] / "models" / "demo"
N_VOCAB = 896  # the demo model's
SIZES = {
    "vocab_size": N_VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.15, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "tie_word_embeddings": False,
}  # fmt: skip
_HOOK = """
import importlib.abc, importlib.util, sys

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "conversion.base":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            module.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Hook())
"""


def any_vocabulary(folder: Path, patch: Any) -> None:
    """Let converters that are started from here take any vocabulary, until ``patch`` (a MonkeyPatch) is undone."""
    (folder / "sitecustomize.py").write_text(_HOOK)
    patch.setenv("PYTHONPATH", str(folder), prepend=":")


def directory(folder: Path, kind: str, rope: dict[str, Any], *, words: str = "bpe", **config: Any) -> Path:
    """A random model of the class ``{kind}ForCausalLM``; its ``config.json`` has ``rope`` as published files have it.

    Args:
        folder: where it goes.
        kind: stem of transformers' class names.
        rope: entries of ``config.json``, such as ``rope_theta`` and ``rope_scaling``.
        words: the tokenizer: ``spm`` (the demo model's) or ``bpe``.
        config: further arguments of the configuration's class.
    """
    import torch
    import transformers

    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = getattr(transformers, f"{kind}Config")(**{**SIZES, **config})
        torch.manual_seed(7)
        model = transformers.AutoModelForCausalLM.from_config(settings)
        with torch.no_grad():
            for value in (p for p in model.parameters() if p.dim() == 1):  # norms start as 1, biases and sinks as 0
                value.add_(0.2 * torch.randn_like(value))
        model.save_pretrained(folder)
    path = folder / "config.json"
    written = {k: v for k, v in json.loads(path.read_text()).items() if k != "rope_parameters"}
    path.write_text(json.dumps(written | rope))
    _write_tokenizer(folder, words)
    return folder


def log_probs(folder: Path, ids: list[int]) -> np.ndarray:
    """``(n, n_vocab)`` of transformers' own model, in float32."""
    import torch
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return np.asarray(torch.log_softmax(logits.double(), dim=-1))


def _write_tokenizer(folder: Path, words: str) -> None:
    if words == "spm":
        for name in ("tokenizer.model", "tokenizer_config.json"):
            (folder / name).write_bytes((DEMO / name).read_bytes())
        return
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a in letters[:40] for b in letters[:40]][: N_VOCAB - len(letters) - 4]
    names = ["<s>", "</s>", "<pad>", "<|end|>", *letters, *(a + b for a, b in pairs)]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=pairs))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(names[:4])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))

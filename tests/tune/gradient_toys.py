"""Toys of transformers' classes as GGUF files, and texts for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from ggufrope.errors import GgufropeError
from ggufrope.inference.session import Session
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.fetch import source_tree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoints"))

__all__ = ["answers", "moved", "on_runtime", "packed_text", "toys"]


@contextmanager
def toys(folder: Path) -> Iterator[Any]:
    """What makes a toy's F32 file by its name, once."""
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    pytest.importorskip("torch")
    if find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is missing; run scripts/setup")
    from checkpoint_case import _ggufrope, _quiet
    from toy_registry import TOYS
    from toys import build
    from warm_interpreter import WarmInterpreter

    try:
        warm, threads = WarmInterpreter(source_tree()), _quiet()
    except GgufropeError as error:
        pytest.skip(f"the pinned source could not be fetched: {error}")

    def make(name: str) -> ModelFile:
        path = folder / f"{name}.gguf"
        if not path.exists():
            checkpoint = build(TOYS[name], folder / f"of-{len(name)}-{name[:2]}" / "hf")
            with patch.object(subprocess, "run", warm.run):
                code, said = _ggufrope("convert", checkpoint, "-o", path, "--outtype", "f32", *TOYS[name].options)
            assert not code, said
        return ModelFile.open(path)

    yield make
    warm.close()
    import torch

    torch.set_num_threads(threads)


def packed_text(prefix: int = 70, n_vocab: int = 200, seed: int = 0) -> Any:
    """A text with four questions: one has no tokens of its own, one an answer of a single token."""
    rng = np.random.default_rng(seed)

    def some(n: int) -> tuple[int, ...]:
        return tuple(map(int, rng.integers(20, n_vocab, n)))

    sizes = [(9, 5), (0, 7), (14, 1), (20, 12)]
    questions = tuple(SimpleNamespace(depth=None, tokens=some(a), answer=some(b)) for a, b in sizes)
    return SimpleNamespace(name="toy", prefix=some(prefix), questions=questions)


def moved(file: ModelFile, seed: int = 1, by: float = 0.1) -> np.ndarray:
    """Random log factors where a layer has no window, 0 elsewhere."""
    model, rng = file.decoded.model, np.random.default_rng(seed)
    parts = [
        rng.normal(0, by, n * model.n_pairs_of(i)) * (model.rotates(i) and not model.slides(i))
        for i, n in enumerate(model.n_head_kv)
    ]
    return np.concatenate(parts)


Reading = tuple[np.ndarray, np.ndarray]


def on_runtime(session: Session, own: np.ndarray, log_factors: np.ndarray, text: Any) -> list[Reading]:
    """Log-probabilities and margins of each question, read by itself from the first token on."""
    session.set_pair_factors(own * np.exp(log_factors))
    found = []
    for question in text.questions:
        ids = [*text.prefix, *question.tokens, *question.answer]
        rows = np.concatenate(list(session.log_probs(ids)))[-len(question.answer) - 1 : -1]
        right = rows[np.arange(len(rows)), list(question.answer)]
        rows[np.arange(len(rows)), list(question.answer)] = -np.inf
        found.append((right, right - rows.max(-1)))
    return found


def answers(found: list[Reading]) -> float:
    """A loss: each answer's improbability, in nats, averaged."""
    return float(-np.mean([right.sum() for right, _ in found]))

"""Where factors stand in the flat array, against the numbers of the runtime and against models with odd layers."""

from __future__ import annotations

import numpy as np
import pytest

from ggufrope.errors import UnsupportedModelError
from ggufrope.rope.model import ModelRope
from ggufrope.tune.layout import PairLayout


def model(**changes) -> ModelRope:
    facts = {
        "arch": "llama", "n_head": (4, 4, 4), "n_head_kv": (2, 2, 2), "head_dim": 8, "rot_dim": 8,
        "freq_base": 10000.0, "train_ctx": 256, "original_ctx": 256,
    }  # fmt: skip
    return ModelRope(**{**facts, **changes})


def test_layers_then_heads_then_pairs():
    layout = PairLayout.of(model(n_head_kv=(2, 0, 1)))
    assert (layout.shapes, layout.offsets, layout.size) == (((2, 4), (0, 4), (1, 4)), (0, 8, 8, 12), 12)
    flat = np.arange(12.0)
    first, none, last = layout.split(flat)
    assert (first.tolist(), none.shape, last.tolist()) == ([[0, 1, 2, 3], [4, 5, 6, 7]], (0, 4), [[8, 9, 10, 11]])
    first[1, 2] = -1.0
    assert flat[6] == -1.0, "parts are views"
    at = layout.coordinates()
    assert at.tolist() == [[0, h, i] for h in range(2) for i in range(4)] + [[2, 0, i] for i in range(4)]
    assert layout.free == (True, False, True)
    with pytest.raises(ValueError, match="the layout has 12"):
        layout.split(np.zeros(11))


def test_windows_stay_unless_asked_for():
    facts = model(arch="gemma3", sliding=(True, False, True))
    assert PairLayout.of(facts).free == (False, True, False)
    assert PairLayout.of(facts, sliding=True).free == (True, True, True)
    other = model(arch="gemma4", head_dim=16, rot_dim=16, sliding=(True, False, True), sliding_rot_dim=8)
    layout = PairLayout.of(other, sliding=True)
    assert (layout.free, layout.shapes, layout.n_pairs) == ((False, True, False), ((2, 4), (2, 8), (2, 4)), 8)


def test_layers_without_rotation_and_followers():
    facts = model(arch="smollm3", rotating=(True, False, True))
    assert PairLayout.of(facts).free == (True, False, True)
    follows = PairLayout.of(model(arch="gemma3n", leaders=(0, 1, 0)))
    assert (follows.free, follows.leaders) == ((True, True, True), (0, 1))
    windowed = PairLayout.of(model(arch="gemma3n", leaders=(0, 1, 0), sliding=(True, False, False)))
    assert windowed.free == (False, True, False), "who follows a layer that stays must stay"


def test_nothing_to_move():
    with pytest.raises(UnsupportedModelError, match="every layer that rotates has a sliding window"):
        PairLayout.of(model(arch="gemma3", sliding=(True, True, True)))
    with pytest.raises(UnsupportedModelError, match="no runtime takes head ratios"):
        PairLayout.of(model(arch="deepseek4"))

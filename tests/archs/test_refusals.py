"""What the converter knows of a file's layers, it refuses before writing."""

from __future__ import annotations

import pytest

from ggufrope.errors import ParameterError, UnsupportedModelError
from ggufrope.methods.ms_poe import MsPoe
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope


def model(arch: str, n_layer: int = 4, **facts) -> ModelRope:
    return ModelRope(arch, (4,) * n_layer, (2,) * n_layer, 32, 32, 10000.0, 256, 256, **facts)


@pytest.mark.parametrize("arch", sorted(architectures.REFUSED))
def test_refused_architecture(arch):
    with pytest.raises(UnsupportedModelError, match=arch):
        MsPoe().ratios(model(arch))


def test_layers_that_share_k_get_their_owners_ratios():
    rows = MsPoe(first_layer=0, head_order="random:3").ratios(model("gemma3n", leaders=(0, 1, 0, 1)))
    assert rows[2:] == rows[:2]
    assert rows[0] != rows[1]


def test_given_ratios_that_part_a_layer_from_its_owner():
    given = MsPoe(head_ratios=((1.5, 1.2), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)))
    with pytest.raises(ParameterError, match="layer 2 of gemma3n uses what layer 0"):
        given.ratios(model("gemma3n", leaders=(0, 1, 0, 1)))


def test_a_model_that_rotates_nowhere():
    with pytest.raises(UnsupportedModelError, match="no layer of this model rotates"):
        model("granitehybrid", rotating=(False,) * 4)

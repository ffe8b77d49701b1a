"""Before a step: PyTorch and the patched runtime agree, and what is computed wrongly on one side is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gradient_toys import packed_text, toys

from ggufrope.errors import UnsupportedModelError
from ggufrope.tune.layout import PairLayout
from ggufrope.tune.runtime_reader import RuntimeReader
from ggufrope.tune.tuning_texts import TuningQuestion, TuningText


@pytest.fixture(scope="module")
def make(runtime_dir, tmp_path_factory):
    with toys(tmp_path_factory.mktemp("toys")) as made:
        yield made


def a_text(**options):
    toy = packed_text(**options)
    questions = (TuningQuestion(str(i), i / 3, q.tokens, q.answer) for i, q in enumerate(toy.questions))
    return TuningText("toy", toy.prefix, tuple(questions))


def check(file, change=lambda model: None):
    from ggufrope.tune.gradient.runtime_agreement import check_against_runtime
    from ggufrope.tune.gradient.streamed_model import StreamedModel

    model, layout = StreamedModel(file), PairLayout.of(file.decoded.model)
    change(model)
    moving = np.repeat(layout.free, [heads * pairs for heads, pairs in layout.shapes])
    with RuntimeReader(file, n_ctx=120, threads=1, kv_type="f32") as reader:
        return check_against_runtime(model, reader, a_text(), moving)


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_they_agree(make, name):
    found = check(make(name))
    assert found.loss == pytest.approx(found.runtime_loss, abs=2e-3)
    assert found.gradient == pytest.approx(found.short_slope, rel=0.1)
    assert found.slope == pytest.approx(found.runtime_slope, rel=0.1)


def as_stored(model):
    """What transformers' processors do to values is left out."""
    from transformers.modeling_gguf_pytorch_utils import TensorProcessor

    described = model._stored._described
    model._stored._described = replace(described, processor=TensorProcessor(config={}))


def one_frequency(model):
    """A pair of one head turns 5% too fast."""
    right = model._rotations

    def wrong(row, log_factors):
        found = right(row, log_factors)
        place = next(i for i, turned in enumerate(found) if turned is not None)
        faster = found[place].frequencies.clone()
        faster[0, 0] *= 1.05
        found[place] = replace(found[place], frequencies=faster)
        return found

    model._rotations = wrong


def without_scale(model):
    right = model._rotations
    model._rotations = lambda row, factors: [t and replace(t, scale=1.1) for t in right(row, factors)]


def no_gradient_in_one_layer(model):
    right = model._rotations

    def wrong(row, log_factors):
        found = right(row, log_factors)
        return [*found[:1], replace(found[1], frequencies=found[1].frequencies.detach()), *found[2:]]

    model._rotations = wrong


def heads_in_another_order(model):
    """Factors go to other heads than on the runtime, in PyTorch's loss and gradient alike."""
    import torch

    right, shapes = model._rotations, model.shapes

    def wrong(row, log_factors):
        parts = zip(log_factors.split([heads * pairs for heads, pairs in shapes]), shapes, strict=True)
        return right(row, torch.cat([part.reshape(shape).flip(0).reshape(-1) for part, shape in parts]))

    model._rotations = wrong


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("llama", as_stored, "does not compute what the runtime computes"),
        ("gemma3_text", as_stored, "does not compute what the runtime computes"),
        ("llama", one_frequency, "does not compute what the runtime computes"),
        ("llama", without_scale, "does not compute what the runtime computes"),
        ("llama", heads_in_another_order, "(gradient is not the runtime's|does not compute what the runtime computes)"),
    ],
)
def test_what_is_wrong_is_refused_with_both_numbers(make, name, change, said):
    with pytest.raises(UnsupportedModelError, match=rf"{said}.*\d\.\d+.*against.*--engine blind takes it"):
        check(make(name), change)


def test_a_layer_without_gradient_is_refused(make):
    """Along the gradient of the others all is well."""
    with pytest.raises(UnsupportedModelError, match="layer 1 has no gradient; --engine blind takes it"):
        check(make("llama"), no_gradient_in_one_layer)

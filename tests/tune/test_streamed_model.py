"""The gradient engine's model against the patched runtime and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_toys import answers, moved, on_runtime, packed_text, toys

from ggufrope.inference.session import open_strict

CORE = ("llama", "qwen2", "gemma3_text", "phi3")
MORE = (
    "llama-spm", "mistral", "qwen3", "gemma2", "starcoder2", "stablelm", "nemotron", "qwen2_moe", "qwen3_moe",
    "minimax_m2", "lfm2",
)  # fmt: skip
NAMES = [*CORE, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
#: ggml looks GELU up in a table of F16. Measured: 1.0e-3; with such a table in PyTorch's place of it, 0.15 to 0.4e-3.
ROUGH = dict.fromkeys(("gemma2", "gemma3_text", "starcoder2"), 0.003)
SMOOTH = 1e-4  # measured: 1.4e-5 to 4.3e-5


@pytest.fixture(scope="module")
def make(runtime_dir, tmp_path_factory):
    with toys(tmp_path_factory.mktemp("toys")) as made:
        yield made


def read(file, text, log_factors, **options):
    """The model's readings, and a loss that can be differentiated by the factors it returns."""
    import torch

    from ggufrope.tune.gradient.streamed_model import StreamedModel

    given = torch.tensor(log_factors, requires_grad=True)
    readings = StreamedModel(file, **options).read(text, given)
    return readings, -torch.stack([one.log_probs.sum() for one in readings]).mean(), given


@pytest.mark.parametrize("name", NAMES)
def test_questions_of_a_packed_text_are_read_as_the_runtime_reads_each_by_itself(make, name):
    file, text, tolerance = make(name), packed_text(), ROUGH.get(name, SMOOTH)
    factors = moved(file)
    readings, loss, given = read(file, text, factors)
    loss.backward()
    gradient = given.grad.numpy() * (moved(file, by=1.0) != 0)
    direction = gradient / np.linalg.norm(gradient)
    with open_strict(file, 110, threads=1) as session:
        own = session.pair_factors().astype(np.float64)
        found = on_runtime(session, own, factors, text)
        for got, (log_probs, margins) in zip(readings, found, strict=True):
            np.testing.assert_allclose(got.log_probs.detach(), log_probs, atol=tolerance)
            np.testing.assert_allclose(got.margins.detach(), margins, atol=2 * tolerance)
        step = 5e-4 if name not in ROUGH else 5e-3
        ends = [answers(on_runtime(session, own, factors + sign * step * direction, text)) for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    assert np.linalg.norm(gradient) == pytest.approx(slope, rel=0.01 if name not in ROUGH else 0.05)


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_the_gradient_is_that_of_finite_differences(make, name):
    """In float64 but for the angles, which transformers computes in float32: 70 radians to 4e-6."""
    file, text = make(name), packed_text()
    factors, rng = moved(file), np.random.default_rng(5)
    _, loss, given = read(file, text, factors, dtype="float64")
    loss.backward()
    direction = rng.normal(size=len(factors)) * (factors != 0)
    direction /= np.linalg.norm(direction)
    step = 1e-3
    ends = [read(file, text, factors + sign * step * direction, dtype="float64")[1].item() for sign in (1, -1)]
    assert float(given.grad.numpy() @ direction) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-3)


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_in_bfloat16_the_gradient_points_where_it_does_in_float32(make, name):
    file, text = make(name), packed_text()
    gradients = []
    for dtype in ("float32", "bfloat16"):
        _, loss, given = read(file, text, moved(file), dtype=dtype)
        loss.backward()
        gradients.append(given.grad.numpy() / np.linalg.norm(given.grad.numpy()))
    assert gradients[0] @ gradients[1] > 0.99  # measured: 0.9993


def test_texts_of_one_step_are_differentiated_together(make):
    """Layers run again in backward, when other texts have been read: with their own positions and masks."""
    import torch

    from ggufrope.tune.gradient.streamed_model import StreamedModel

    file = make("gemma3_text")
    model, factors = StreamedModel(file), moved(file)

    def gradient(*texts):
        given = torch.tensor(factors, requires_grad=True)
        torch.stack([one.log_probs.sum() for text in texts for one in model.read(text, given)]).sum().backward()
        return given.grad.numpy()

    one, other = packed_text(), packed_text(prefix=90, seed=3)
    np.testing.assert_allclose(gradient(one, other), gradient(one) + gradient(other), rtol=1e-4, atol=1e-5)


def test_weights_that_are_kept_are_those_that_are_read_again(make):
    text, factors = packed_text(), moved(make("llama"))
    kept, streamed = (read(make("llama"), text, factors, keep=keep) for keep in (2**30, 0))
    for _, loss, _ in (kept, streamed):
        loss.backward()
    assert kept[1].item() == streamed[1].item()
    assert kept[2].grad.numpy().tobytes() == streamed[2].grad.numpy().tobytes()


def test_what_is_not_read_says_that_the_blind_engine_takes_it(make):
    from ggufrope.errors import UnsupportedModelError
    from ggufrope.tune.gradient.streamed_model import StreamedModel

    with pytest.raises(UnsupportedModelError, match="architecture 'gptneox'; --engine blind takes it"):
        StreamedModel(make("gpt_neox"))

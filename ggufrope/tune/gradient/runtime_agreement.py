"""Before a step is taken: PyTorch and the patched runtime, on one text, in loss and in slope.

Right answers' log-probabilities must be the runtime's but for what its arithmetic does to them, which depends on how
weights are stored: it rounds activations to F16 before it multiplies them with F16 weights, and to 8 bits before it
multiplies them with quantized ones. ``TOLERANCES`` has what was measured. The slope along the gradient must be the
runtime's by finite differences, set through ``ggufrope.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ggufrope.errors import UnsupportedModelError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.tune.gradient.described_class import REMEDY
from ggufrope.tune.gradient.packing import Packable
from ggufrope.tune.gradient.streamed_model import StreamedModel

Floats = NDArray[np.float64]

__all__ = ["TOLERANCES", "Agreement", "FactorReader", "check_against_runtime", "tolerance"]

#: Largest root mean square of differences in log-probability, in nats, by how matrices are stored. Measured with an F32
#: cache on real models: F16 0.0007 to 0.002 (SmolLM2-135M), 0.0045 (Gemma 3 270M); Q4_1 0.018 to 0.031 and Q4_K_M 0.09
#: (SmolLM2), 0.06 (Qwen2.5-Coder-0.5B), 0.26 (Gemma 3, whose F16 shows that all of that is rounding to 8 bits). A
#: permutation or an offset that is forgotten costs 3.3 (SmolLM2) to 21 (Gemma 3).
TOLERANCES = {"F32": 0.02, "F16": 0.02, "BF16": 0.05}
_QUANTIZED = 0.6
#: Steps along the gradient that PyTorch's own gradient is held against, in log factors (a norm over all of them): the
#: first over which it is straight. At position 400 a fast pair of 1% lower frequency has turned by 4 radians less, so a
#: small model with few pairs to share a step bends within 0.003; one that leaves float32 no digits is too short.
_SHORTS = (0.003, 0.001, 0.0003, 0.0001)
#: The runtime is asked over a step at which its arithmetic is a twentieth of the slope, up to this one.
_LONG = 0.3
_SLOPE, _CURVED, _DEVIATIONS = 0.2, 0.25, 2.5


class FactorReader(Protocol):
    """What reads texts on the runtime: ``RuntimeReader``, with an F32 cache."""

    def set(self, log_factors: Floats) -> None:
        """Read with the file's factors times ``exp(log_factors)`` from now on."""
        ...

    def read(self, texts: Sequence[Any]) -> list[list[Any]]:
        """For each text a reading of each question, with ``log_probs``."""
        ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """What PyTorch and the runtime said of a text.

    Attributes:
        loss: nats a token of the right answers, in PyTorch.
        runtime_loss: the same on the runtime.
        deviation: root mean square of the differences in log-probability of single tokens, over three tables: the
            file's, and a step to both sides of it along the gradient.
        tolerance: what that may be.
        gradient: length of the gradient, in nats a token.
        short_slope: PyTorch's, by finite differences over a short step: nearly the gradient.
        step: over which the runtime was asked, over all log factors.
        slope: PyTorch's over that step.
        runtime_slope: the runtime's over that step.
        noise: what ``deviation`` alone makes of a slope over that step, one standard deviation.
    """

    loss: float
    runtime_loss: float
    deviation: float
    tolerance: float
    gradient: float
    short_slope: float
    step: float
    slope: float
    runtime_slope: float
    noise: float

    @property
    def levels_agree(self) -> bool:
        """Whether log-probabilities differ as arithmetic makes them differ, and no more."""
        return self.deviation <= self.tolerance

    @property
    def slope_allowed(self) -> float:
        """What slopes may differ by."""
        return _SLOPE * abs(self.slope) + _DEVIATIONS * self.noise

    @property
    def slopes_agree(self) -> bool:
        """Whether the gradient is that of what PyTorch computes, and that the runtime's."""
        return _straight(self.short_slope, self.gradient) and abs(self.slope - self.runtime_slope) <= self.slope_allowed


def tolerance(file: ModelFile) -> float:
    """What the root mean square of differences may be for a file, in nats."""
    return max(TOLERANCES.get(kind, _QUANTIZED) for kind in file.weight_types)


def check_against_runtime(
    model: StreamedModel, reader: FactorReader, text: Packable, moving: NDArray[np.bool_] | None = None
) -> Agreement:
    """Compare the loss of a text, and its slope along the gradient; what they were, where they agree.

    The reader is left at the file's own factors.

    Args:
        model: the file in PyTorch.
        reader: the same file on the runtime.
        text: a text that is learned from.
        moving: which log factors may be moved, ``(size,)``; None: all.

    Raises:
        UnsupportedModelError: they do not agree; the message has both numbers.
    """
    start = torch.zeros(model.size, dtype=torch.float64, requires_grad=True)
    log_probs = _log_probs(model, text, start)
    (gradient,) = torch.autograd.grad(-log_probs.mean(), start)
    _require_all_layers(model, gradient)
    ahead = gradient.numpy() * (1.0 if moving is None else moving)
    norm = float(np.linalg.norm(ahead)) or 1e-12
    short = _short_slope(model, text, ahead / norm, norm)
    here, found = log_probs.detach().cpu().double().numpy(), _on_runtime(reader, text, 0 * ahead)
    deviation = _rms(here - found)
    step = float(np.clip(20 * deviation / len(found) ** 0.5 / (norm * 2**0.5), _SHORTS[0], _LONG))
    move = ahead / norm * step
    ends = _in_torch(model, text, move)
    runtime_ends = _on_runtime(reader, text, move), _on_runtime(reader, text, -move)
    reader.set(0 * ahead)
    deviation = max(deviation, *(_rms(one - other) for one, other in zip(ends, runtime_ends, strict=True)))
    agreement = Agreement(
        loss=-float(here.mean()), runtime_loss=-float(found.mean()), deviation=deviation,
        tolerance=tolerance(model.file), gradient=norm, short_slope=short, step=step, slope=_slope(*ends, step),
        runtime_slope=_slope(*runtime_ends, step), noise=deviation / len(found) ** 0.5 / (step * 2**0.5),
    )  # fmt: skip
    _require(model.file, agreement)
    return agreement


def _require_all_layers(model: StreamedModel, gradient: Tensor) -> None:
    """A slope along the gradient says nothing of what the gradient leaves out."""
    parts = gradient.split([heads * pairs for heads, pairs in model.shapes])
    rotating = (layer for layer in range(len(parts)) if model.file.decoded.model.rotates(layer))
    still = next((layer for layer in rotating if not bool(parts[layer].any())), None)
    if still is not None:
        raise UnsupportedModelError(f"{model.file.path}: PyTorch's layer {still} has no gradient; {REMEDY}")


def _require(file: ModelFile, found: Agreement) -> None:
    if not found.levels_agree:
        raise UnsupportedModelError(
            f"{file.path}: PyTorch does not compute what the runtime computes: {found.loss:.4f} nats a token against "
            f"{found.runtime_loss:.4f}, single tokens {found.deviation:.2g} apart where {found.tolerance:.2g} is "
            f"arithmetic; {REMEDY}"
        )
    if not found.slopes_agree:
        raise UnsupportedModelError(
            f"{file.path}: PyTorch's gradient is not the runtime's: {found.gradient:.4g} nats a token where it changes "
            f"by {found.short_slope:.4g}; over a longer step by {found.slope:.4g} against {found.runtime_slope:.4g} on "
            f"the runtime, {found.slope_allowed:.2g} apart is arithmetic; {REMEDY}"
        )


def _rms(difference: Floats) -> float:
    return float(np.sqrt((difference**2).mean()))


def _slope(ahead: Floats, behind: Floats, step: float) -> float:
    """Of the loss, from log-probabilities a step ahead and behind."""
    return float(behind.mean() - ahead.mean()) / (2 * step)


def _short_slope(model: StreamedModel, text: Packable, direction: Floats, gradient: float) -> float:
    """PyTorch's slope over the first of ``_SHORTS`` that makes it the gradient, or over the last one."""
    slope = 0.0
    for step in _SHORTS:
        slope = _slope(*_in_torch(model, text, direction * step), step)
        if _straight(slope, gradient):
            break
    return slope


def _straight(slope: float, gradient: float) -> bool:
    return abs(gradient - slope) <= _CURVED * gradient


def _in_torch(model: StreamedModel, text: Packable, move: Floats) -> tuple[Floats, Floats]:
    """Log-probabilities of the right tokens with log factors of ``move``, and of its opposite."""
    with torch.no_grad():
        there = (_log_probs(model, text, torch.from_numpy(sign * move)).cpu().double().numpy() for sign in (1, -1))
        ahead, behind = there
    return ahead, behind


def _log_probs(model: StreamedModel, text: Packable, log_factors: Tensor) -> Tensor:
    """Of the right tokens of all answers, ``(tokens,)``."""
    return torch.cat([reading.log_probs for reading in model.read(text, log_factors)])


def _on_runtime(reader: FactorReader, text: Packable, log_factors: Floats) -> Floats:
    reader.set(log_factors)
    (readings,) = reader.read([text])
    return np.concatenate([np.asarray(reading.log_probs, dtype=np.float64) for reading in readings])

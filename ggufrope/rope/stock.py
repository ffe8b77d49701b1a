"""How stock llama.cpp reads its own rope keys: the settings, and the table it computes from them.

This is the arithmetic of llama.cpp at the pin (context set-up and the rope kernel), not of any paper. The codec uses it
to find out whether a method can be left to stock; ``inspect`` uses it to say what a file really does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ggufrope.errors import ParameterError
from ggufrope.late import np
from ggufrope.rope import architectures
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable, yarn_factors

__all__ = ["LINEAR", "LONGROPE", "SCALING_TYPES", "YARN", "StockRope"]

LINEAR, YARN, LONGROPE = "linear", "yarn", "longrope"

#: Values of ``rope.scaling.type`` that scale; llama.cpp aborts on any other but ``none``.
SCALING_TYPES = (LINEAR, YARN, LONGROPE)


@dataclass(frozen=True, slots=True)
class StockRope:
    """Upstream's rope settings; None or empty means the key or tensor is absent.

    Attributes:
        freq_base: ``rope.freq_base``; None keeps the model's.
        scaling_type: ``linear``, ``yarn``, ``longrope`` or None.
        factor: ``rope.scaling.factor``; 1 means unscaled.
        original_ctx: ``rope.scaling.original_context_length``.
        attn_factor: ``rope.scaling.attn_factor``, multiplies cos and sin whatever the type.
        log_mul: ``rope.scaling.yarn_log_multiplier``; 0 when absent.
        beta_fast, beta_slow: YaRN's ramp, in rotations over the original context.
        rope_freqs: ``rope_freqs.weight`` that a *method* adds (the model's own belong to ``ModelRope.own_factors``).
        short, long: ``rope_factors_{short,long}.weight``.
    """

    freq_base: float | None = None
    scaling_type: str | None = None
    factor: float = 1.0
    original_ctx: int | None = None
    attn_factor: float = 1.0
    log_mul: float = 0.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    rope_freqs: tuple[float, ...] = ()
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """The scaling in force: its type, and ``linear`` where a factor stands without one."""
        return self.scaling_type or ("none" if self.factor == 1.0 else LINEAR)

    @property
    def takes_factor(self) -> bool:
        """Whether the type reads ``rope.scaling.factor``."""
        return self.scaling_type in (LINEAR, YARN)

    @property
    def takes_ramp(self) -> bool:
        """Whether the type reads ``rope.scaling.yarn_beta_fast`` and ``yarn_beta_slow``."""
        return self.scaling_type == YARN

    def as_read_by(self, arch: str) -> StockRope:
        """These settings less what llama.cpp does not read for ``arch``."""
        seen = self
        if arch in architectures.IGNORES_SCALING:
            return StockRope()
        if arch not in architectures.READS_YARN_BETA:
            seen = replace(seen, beta_fast=32.0, beta_slow=1.0)
        if arch not in architectures.READS_YARN_LOG_MUL:
            seen = replace(seen, log_mul=0.0)
        if arch not in architectures.ROPE_FREQS_TENSOR:
            seen = replace(seen, rope_freqs=())
        if arch not in architectures.LONGROPE_TENSORS:
            seen = replace(seen, short=(), long=())
        return seen

    def table(self, model: ModelRope) -> RopeTable:
        """The divisors that llama.cpp applies, relative to the model's base frequencies, in either kind of layers.

        LongRoPE gives two rows; llama.cpp picks one by the *allocated* context, not by the used length.
        """
        seen = self.as_read_by(model.arch)
        table = seen._rows(model)
        return table.with_sliding(seen._in_windows(model)._rows(model.of_sliding)) if model.has_windows else table

    def attention_multiplier(self, arch: str) -> float:
        """What q·k is multiplied by beside what cos and sin are, in DeepSeek's attention (deepseek2.cpp, ``kq_scale``).

        It hangs on the file's own factor and ``yarn_log_multiplier``, whatever factors are multiplied in later.
        """
        if arch not in architectures.ATTENTION_FOLLOWS_FACTOR:
            return 1.0
        seen = self.as_read_by(arch)
        set_up = seen._set_up(arch) if seen.takes_ramp else 1.0
        log = 0.1 * math.log(max(seen.factor, 1.0))
        return float((seen.attn_factor * set_up * seen._kernel_scale * (1.0 + seen._all_dims(arch) * log)) ** 2)

    def _all_dims(self, arch: str) -> float:
        """DeepSeek's ``mscale_all_dim``; 0 where the file has none."""
        return self.log_mul * (10.0 if arch in architectures.YARN_LOG_MUL_IN_TENTHS else 1.0)

    def _rows(self, model: ModelRope) -> RopeTable:
        """The table of one kind of layers, whose facts ``model`` has."""
        factors = np.ones(model.n_pairs)
        if self.freq_base is not None:
            factors = (self.freq_base / model.freq_base) ** (np.arange(model.n_pairs) * 2 / model.rot_dim)
        scale = self.attn_factor
        original = self.original_ctx or model.original_ctx
        if self.takes_ramp:
            base = self.freq_base or model.freq_base
            factors = factors * yarn_factors(model.rot_dim, base, self.factor, original, self.beta_fast, self.beta_slow)
            scale *= self._set_up(model.arch) * self._kernel_scale
        else:
            factors = factors * self.factor
        if self.rope_freqs:
            factors = factors * _fit("rope_freqs.weight", self.rope_freqs, model)
        if self.long:
            rows = [factors * _fit("rope_factors", f, model) for f in (self.short, self.long)]
            points = (original, max(model.train_ctx, original + 1))
            return RopeTable(np.stack(rows), np.full(2, scale), length_points=points)
        return RopeTable.uniform(factors, scale)

    def _in_windows(self, model: ModelRope) -> StockRope:
        """What of these settings acts in the sliding-window layers of ``model``."""
        base = self.freq_base if model.sliding_base is None else None
        if model.arch in architectures.SLIDING_PLAIN:
            return StockRope(freq_base=base)
        seen = replace(self, freq_base=base)
        if model.arch in architectures.OWN_FACTORS_IN_FULL_ONLY:
            seen = replace(seen, rope_freqs=(), short=(), long=())
        if model.sliding_scaled:
            return seen
        set_up = self._set_up(model.arch) if self.takes_ramp else 1.0  # one number for all layers; the kernel's is not
        return replace(seen, scaling_type=None, factor=1.0, attn_factor=self.attn_factor * set_up)

    @property
    def _kernel_scale(self) -> float:
        """What the kernel multiplies cos and sin by in a layer that YaRN scales."""
        return 1.0 + 0.1 * math.log(max(self.factor, 1.0))

    def _set_up(self, arch: str) -> float:
        """What the set-up of a context multiplies cos and sin of all layers by under YaRN, besides ``attn_factor``."""

        def mscale(weight: float) -> float:
            return 1.0 + 0.1 * weight * math.log(max(self.factor, 1.0))

        if not self.log_mul:
            return mscale(1.0) / self._kernel_scale
        all_dims = self._all_dims(arch)
        kept = mscale(all_dims if arch == "deepseek2" and all_dims != 1.0 else 1.0)
        return kept / mscale(all_dims) / self._kernel_scale


def _fit(name: str, values: tuple[float, ...], model: ModelRope) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if len(values) != model.n_pairs:
        raise ParameterError(f"{name}: {len(values)} entries, expected rot_dim/2 = {model.n_pairs}")
    return np.asarray(values, dtype=np.float64)

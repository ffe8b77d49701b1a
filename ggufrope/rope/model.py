"""The facts about a model that RoPE depends on, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ggufrope.errors import UnsupportedModelError
from ggufrope.late import np
from ggufrope.rope import architectures

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_LAYERS", "ModelRope"]

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS at the pin
_MAX_HEADS = 1024
_MAX_HEAD_DIM = 1 << 16


@dataclass(frozen=True, slots=True)
class ModelRope:
    """What every method needs to know, and nothing that depends on a method.

    Attributes:
        arch: ``general.architecture``, e.g. ``llama``.
        n_head: query heads of each layer, one entry per layer.
        n_head_kv: KV heads of each layer; 0 for a layer without attention.
        head_dim: dimensions of one K head.
        rot_dim: how many of them are rotated (even, at most ``head_dim``).
        freq_base: base of the geometric frequencies (``rope_theta``).
        train_ctx: context the model was trained for, in tokens.
        original_ctx: context before the scaling that the file already declares; equals ``train_ctx`` without one.
        sliding: which layers attend to a sliding window only; empty: none does.
        sliding_base: base of those layers; None: ``freq_base``, also where a method raises that.
        sliding_rot_dim: rotated dimensions of those layers; None: ``rot_dim``.
        sliding_scaled: whether a factor that the file declares acts on those layers too.
        rotating: which layers rotate at all; empty: all of them.
        leaders: for each layer, the layer whose ratios it must have: the one whose K it uses, or whose block it runs
            again; empty: each layer is its own.
        mla: multi-head latent attention: all heads of a layer share one rotated K.
        own_factors: the model's own per-pair divisors (``rope_freqs.weight``), shape ``(rot_dim/2,)``; empty: none.
            They belong to the model, not to a method, and multiply into whatever a method computes.
    """

    arch: str
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    head_dim: int
    rot_dim: int
    freq_base: float
    train_ctx: int
    original_ctx: int
    sliding: tuple[bool, ...] = ()
    rotating: tuple[bool, ...] = ()
    leaders: tuple[int, ...] = ()
    mla: bool = False
    own_factors: tuple[float, ...] = field(default=(), repr=False)
    sliding_base: float | None = None
    sliding_rot_dim: int | None = None
    sliding_scaled: bool = True

    def __post_init__(self) -> None:
        n = len(self.n_head)
        if not n or len(self.n_head_kv) != n or {len(self.sliding), len(self.rotating), len(self.leaders)} - {0, n}:
            raise UnsupportedModelError(
                f"{self.arch}: head counts for {n} layers, KV head counts for {len(self.n_head_kv)}: they must agree"
            )
        if self.pairing == "none":
            known = "does not use RoPE" if architectures.knows(self.arch) else "is unknown to the pinned llama.cpp"
            raise UnsupportedModelError(
                f"architecture '{self.arch}' {known}: there is nothing to scale; "
                "`ggufrope convert --method none` copies it"
            )
        if self.rotating and not any(self.rotating):
            raise UnsupportedModelError(f"{self.arch}: no layer of this model rotates; --method none copies it")
        heads = (*self.n_head, *self.n_head_kv)
        if n > MAX_LAYERS or not 0 <= min(heads) <= max(heads) <= _MAX_HEADS or self.head_dim > _MAX_HEAD_DIM:
            raise UnsupportedModelError(
                f"{self.arch}: {n} layers of {min(heads)} to {max(heads)} heads with {self.head_dim} dimensions; "
                f"at most {MAX_LAYERS}, {_MAX_HEADS} and {_MAX_HEAD_DIM} are handled"
            )
        if self.rot_dim < 2 or self.rot_dim % 2 or self.rot_dim > self.head_dim:
            raise UnsupportedModelError(
                f"{self.arch}: rope.dimension_count is {self.rot_dim}; it must be even, ≥ 2 and at most the head size "
                f"{self.head_dim}"
            )
        if not (np.isfinite(self.freq_base) and self.freq_base > 1):
            raise UnsupportedModelError(f"{self.arch}: rope.freq_base is {self.freq_base}; it must be above 1")
        if not (0 < self.train_ctx < 1 << 32 and 0 < self.original_ctx < 1 << 32):
            raise UnsupportedModelError(
                f"{self.arch}: context_length {self.train_ctx}, {self.original_ctx} before scaling; "
                "both must be positive u32s"
            )
        own = np.asarray(self.own_factors)
        if not (np.isfinite(own) & (own > 0)).all():
            raise UnsupportedModelError(
                f"{self.arch}: rope_freqs.weight has entries that are not positive numbers; convert the original again"
            )
        if self.own_factors and len(self.own_factors) != self.rot_dim // 2:
            raise UnsupportedModelError(
                f"{self.arch}: rope_freqs.weight has {len(self.own_factors)} entries, expected {self.rot_dim // 2}"
            )
        self._check_sliding()

    def _check_sliding(self) -> None:
        base, rot_dim = self.sliding_base, self.sliding_rot_dim
        if base is not None and not (np.isfinite(base) and base > 1):
            raise UnsupportedModelError(f"{self.arch}: rope.freq_base_swa is {base}; it must be above 1")
        if rot_dim is not None and (rot_dim < 2 or rot_dim % 2 or rot_dim > _MAX_HEAD_DIM):
            raise UnsupportedModelError(
                f"{self.arch}: rope.dimension_count_swa is {rot_dim}; it must be even, ≥ 2 and at most {_MAX_HEAD_DIM}"
            )

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return len(self.n_head)

    @property
    def pairing(self) -> str:
        """``norm``, ``neox``, ``mrope``, ``imrope`` or ``none``."""
        return architectures.pairing(self.arch)

    @property
    def n_pairs(self) -> int:
        """Rotated pairs per head, ``rot_dim / 2``."""
        return self.rot_dim // 2

    def n_pairs_of(self, layer: int) -> int:
        """Rotated pairs per head of ``layer``, which may differ where there are sliding windows."""
        return (self.of_sliding if self.slides(layer) else self).n_pairs

    def trained_frequencies(self) -> NDArray[np.float64]:
        """``base_frequencies`` with the model's own factors, in radians per token: what it was trained with."""
        own = np.asarray(self.own_factors) if self.own_factors else 1.0
        return np.asarray(self.base_frequencies() / own)

    def slides(self, layer: int) -> bool:
        """Whether ``layer`` attends to a sliding window only."""
        return bool(self.sliding) and self.sliding[layer]

    @property
    def has_windows(self) -> bool:
        """Whether any layer attends to a sliding window only."""
        return any(self.sliding)

    @property
    def of_sliding(self) -> ModelRope:
        """The facts as they are for sliding-window layers: with their base, rotated dimensions and own factors."""
        if not self.has_windows:
            return self
        rot_dim = self.sliding_rot_dim or self.rot_dim
        own = () if self.arch in architectures.OWN_FACTORS_IN_FULL_ONLY else self.own_factors
        return replace(
            self, freq_base=self.sliding_base or self.freq_base, rot_dim=rot_dim, head_dim=max(self.head_dim, rot_dim),
            own_factors=own, sliding=(), sliding_base=None, sliding_rot_dim=None, sliding_scaled=True,
        )  # fmt: skip

    def rotates(self, layer: int) -> bool:
        """Whether ``layer`` has heads that rotate: not in recurrent layers, nor in those without positions."""
        return self.n_head_kv[layer] > 0 and (not self.rotating or self.rotating[layer])

    def one_of_each_kind(self) -> tuple[int, ...]:
        """The first rotating layer without a sliding window, then the first one with; those of them that there are."""
        rotating = [layer for layer in range(self.n_layer) if self.rotates(layer)]
        kinds = ([layer for layer in rotating if self.slides(layer) == sliding] for sliding in (False, True))
        return tuple(layers[0] for layers in kinds if layers)

    def leader(self, layer: int) -> int:
        """The layer whose ratios ``layer`` must have; nearly always itself."""
        return self.leaders[layer] if self.leaders else layer

    def base_frequencies(self) -> NDArray[np.float64]:
        """Angular frequency of each pair in radians per token before any scaling, shape ``(rot_dim/2,)``.

        ``base^(-2i/rot_dim)``, RoFormer (arXiv 2104.09864), equation 15.
        """
        exponent = np.arange(self.n_pairs, dtype=np.float64) * 2 / self.rot_dim
        return np.asarray(self.freq_base**-exponent, dtype=np.float64)

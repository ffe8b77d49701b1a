"""The cases of the matrix: which toy is converted with which settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from published_settings import DISGUISED, SPECIAL
from rope_settings import KEYS, TYPES, lists
from toy_registry import TOYS

__all__ = ["CASES", "LENGTHS", "Case"]

#: Texts that are read, in tokens: within the original context and beyond, where Dynamic NTK has a row (256 · 2^(n/4)).
LENGTHS = (200, 512)


@dataclass(frozen=True, slots=True)
class Case:
    """One checkpoint.

    Attributes:
        toy: name of the toy.
        setting: name of the setting; ``as it is`` leaves the toy's own.
        rope: what the configuration has instead of the toy's rope keys; a value of None takes a key away, but that of
            ``rope_scaling``.
        core: whether the default suite runs it.
        disguise: what stands around the configuration, one of ``DISGUISES``; empty: nothing.
    """

    toy: str
    setting: str
    rope: dict[str, Any] | None
    core: bool = False
    disguise: str = ""

    @property
    def name(self) -> str:
        """For people, and unique."""
        return f"{self.toy}{f' in {self.disguise}' if self.disguise else ''}: {self.setting}"


_CORE = {
    "llama: yarn", "llama: longrope-factor", "qwen3: yarn-attn-factor", "qwen3: llama3-beside-parameters",
    "qwen3: yarn-betas-equal", "qwen3: dynamic", "gpt_oss: published", "gemma3_text: yarn-attention-factor",
    "deepseek_v3: kimi-k2", "llama4_text: scout", "gpt_neox: yarn", "smollm3: yarn", "phimoe: mscales",
}  # fmt: skip


#: Where another base than this would be one for some layers only.
_BASES = {"olmo3": 500000.0}


def _fitting(toy: str, rope: dict[str, Any]) -> dict[str, Any]:
    """With lists of LongRoPE that are as long as the toy's rotated part of a head."""
    rope = rope | {"rope_theta": _BASES.get(toy, rope["rope_theta"])}
    scaling = rope.get("rope_scaling") or {}
    return rope | {"rope_scaling": scaling | lists(TOYS[toy].pairs)} if "long_factor" in scaling else rope


#: Ministral 3's class and llama.cpp's take YaRN alone, with keys of their own, PhiMoE's LongRoPE with two more; Gemma 4
#: and Mellum have other settings for each type of layers; llama-spm is there for MiniCPM.
_ONE_TYPE = {"ministral3", "phimoe", "gemma4_text", "mellum", "llama-spm"}


def _generated() -> Iterator[Case]:
    for toy in TOYS:
        yield Case(toy, "as it is", None)
        for kind, rope in TYPES.items():
            if TOYS[toy].vision is None and toy not in _ONE_TYPE:
                yield Case(toy, kind, _fitting(toy, rope))
    for toy in ("llama", "qwen3"):
        for setting, rope in KEYS.items():
            yield Case(toy, setting, rope)
    for toy, setting, rope in SPECIAL:
        yield Case(toy, setting, rope)
    for toy, disguise, setting in DISGUISED:
        yield Case(toy, setting, (TYPES | KEYS)[setting], disguise=disguise)


CASES = [replace(c, core=c.name in _CORE) for c in _generated()]

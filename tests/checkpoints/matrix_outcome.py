"""What became of a checkpoint, and whether that is right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["MAX_GAP", "MAX_KL", "Outcome", "kind"]

MAX_KL = 1e-6  # nats, mean over the text; right files have 1e-14 to 1e-9, with GELU (an F16 table) up to 7e-7
MAX_GAP = 1e-5  # relative, of a frequency or an attention scale; float32 keys and transformers' float32 make 3e-7


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: its name.
        transformers: why transformers itself cannot run the model; empty where it can.
        refused: the exit code and message of a command that refused; empty where all ran.
        said: what ``convert`` printed.
        architecture: in GGUF; empty without a file.
        stock: whether the file is said to run on stock llama.cpp in full.
        gap: largest relative difference of a frequency, ``inspect`` against transformers, over layers and lengths;
            infinite where the numbers of pairs differ.
        scale_gap: the same of the attention scale.
        kl: mean KL(transformers ‖ patched runtime) in nats at each length.
        stock_kl: the same of the stock runtime, where the file is said to run there in full.
    """

    case: str
    transformers: str = ""
    refused: str = ""
    said: str = ""
    architecture: str = ""
    stock: bool = False
    gap: float = 0.0
    scale_gap: float = 0.0
    kl: tuple[float, ...] = ()
    stock_kl: tuple[float, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether there is a file, and everything that was measured of it is within limits."""
        gaps = (self.gap, self.scale_gap)
        return bool(self.kl) and max(self.kl + self.stock_kl) <= MAX_KL and max(gaps) <= MAX_GAP

    @property
    def agrees(self) -> bool:
        """Whether ``convert`` said so."""
        return "agree with" in self.said or "agrees with" in self.said

    def as_json(self) -> dict[str, Any]:
        """For the file that the tables in ``docs/validation.md`` are made from; without the keys that were written."""
        lines = [line for line in self.said.splitlines() if not line.startswith("  ")]
        return asdict(self) | {"said": "\n".join(lines)}


def kind(outcome: Outcome) -> str:
    """What it came to.

    ``stock``: exact on the stock and on the patched runtime, and said so. ``patched``: exact on the patched one.
    ``refused``: transformers runs it, ``convert`` refuses. ``nothing``: both refuse. ``uncompared``: transformers has
    no model for the settings, and ``convert`` says that it compared nothing. ``wrong``: anything else.
    """
    if outcome.refused:
        refuses = outcome.refused.startswith("exit 2:")
        return ("nothing" if outcome.transformers else "refused") if refuses else "wrong"
    if outcome.transformers:
        return "uncompared" if "not compared with" in outcome.said and not outcome.agrees else "wrong"
    if outcome.exact:
        return "stock" if outcome.stock else "patched"
    return "wrong"

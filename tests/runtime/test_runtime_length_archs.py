"""Length tables on other architectures: a switch equals having had the row from the start, where nothing else differs.

In a toy model of each architecture attention and recurrent state are silenced in all layers but one. Then nothing that
the other layers cache reaches the logits, and the input of the last one does not depend on rows: tokens behind a switch
must get the logits that they get when the prompt used their row, which an old key would change.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from llama_process import Outcome, run_job

from ggufrope.gguf import Header, read_header
from ggufrope.gguf.rewrite import rewrite
from ggufrope.gguf.values import TypedValue, ValueType
from ggufrope.runtime.locate import Runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts/studies"))
from arch_matrix.driver import NoCompilerError, compile_toys

pytestmark = pytest.mark.slow

TOKENS = np.random.default_rng(5).integers(3, 100, 70).tolist()
OUTPUT = re.compile(r"blk\.(\d+)\.(attn_output|ssm_out|shortconv\.out_proj)\.(?:weight|bias)")

#: Architecture, and what is special about it. The layer that stays is the last one with attention.
SERVED = {
    "gemma2-dense": "sliding windows, whose layers keep their rotation",
    "gpt-oss-moe": "sliding windows with the same base",
    "olmo2-dense": "norms of Q and K",
    "deepseek2-moe": "MLA: one latent K, of which the end is rotated",
    "minicpm3-dense": "MLA without compression",
    "stablelm-dense": "partial rotation",
    "chatglm-dense": "fused Q, K and V",
    "qwen2vl-dense": "sections of positions",
    "qwen35-dense": "interleaved sections beside recurrent layers",
    "qwen3next-moe": "recurrent layers",
    "falcon-h1-dense": "recurrent state and attention in one layer",
    "granitehybrid-dense": "recurrent layers",
    "plamo2-dense": "recurrent layers",
    "lfm2moe-moe": "convolutions in between",
}
REFUSED = {
    "hunyuan-dense-dense": "layer 0 of architecture hunyuan-dense does not cache K as RoPE leaves it",
    "deepseek32-moe": "architecture deepseek32 keeps its keys in a cache that cannot be rotated anew",
    "minimax-m3-moe": "architecture minimax-m3 keeps its keys in a cache that cannot be rotated anew",
}


@pytest.fixture(scope="module")
def toys(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of toy models, one for each architecture above."""
    folder = tmp_path_factory.mktemp("toys")
    try:
        program = compile_toys(Runtime.read(runtime_dir) or pytest.skip("no build"), folder)
    except NoCompilerError as error:
        pytest.skip(str(error))
    names = "|".join(name.rsplit("-", 1)[0] for name in (*SERVED, *REFUSED))
    command = [program, "save", folder, f"^({names})$"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(runtime_dir), "DYLD_LIBRARY_PATH": str(runtime_dir)}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return folder


def keys(toy: Header, n_pairs: int) -> dict[str, TypedValue]:
    """Two rows; and no fourth section of positions, as in every real model that has sections."""

    def array(kind: ValueType, values: object) -> TypedValue:
        return TypedValue(ValueType.ARRAY, np.asarray(values), kind)

    factors = np.concatenate([np.ones(n_pairs), 1 + 1.5 * np.linspace(0, 1, n_pairs)])
    sections = [field.key for field in toy.fields if field.key.endswith("rope.dimension_sections")]
    third = n_pairs // 3
    return {
        "ggufrope.version": TypedValue(ValueType.UINT32, 1),
        "ggufrope.method": TypedValue(ValueType.STRING, "table"),
        "ggufrope.length_points": array(ValueType.UINT32, np.array([48, 512], np.uint32)),
        "ggufrope.length_factors": array(ValueType.FLOAT32, factors.astype(np.float32)),
        "ggufrope.length_attn_scale": array(ValueType.FLOAT32, np.array([1, 1.2], np.float32)),
        **{key: array(ValueType.INT32, np.array([n_pairs - 2 * third, third, third, 0], np.int32)) for key in sections},
    }


PROMPT, REST = ["eval", TOKENS[:40], 0, 0], ["eval", TOKENS[40:], 40, 0]
#: The prompt with the row of all tokens and the rest, then the prompt with its own row and the rest.
SWITCH = [["hint", 70], PROMPT, REST, ["clear"], PROMPT, REST, ["row"]]
#: The same, where the prompt with its own row comes from a saved state, beside another sequence.
STATE = [["hint", 70], PROMPT, REST, ["clear"], PROMPT, ["keep_seq", 0], ["clear"]]
STATE += [["eval", TOKENS[::-1][:60], 0, 1], ["restore_seq", 0], REST]


def run(library: Path, toy: Path, model: Path, steps: list, **context: int) -> Outcome:
    """Run the silenced toy with a table; how many factors it wants shows in the reason that it refuses others for."""
    n_pairs = 16
    for _ in range(2):
        rewrite(read_header(toy), model, set=keys(read_header(toy), n_pairs))
        silence(model)
        outcome = run_job(library, model, steps, **context)
        wanted = re.search(r"length_factors': expected (\d+) f32", outcome.last_error)
        if wanted is None:
            break
        n_pairs = int(wanted[1]) // 2
    return outcome


def silence(path: Path) -> None:
    """Set what attention and recurrent state add to zero in all layers but the last one with attention."""
    header = read_header(path)
    found = [(int(m[1]), m[2], tensor) for tensor in header.tensors if (m := OUTPUT.fullmatch(tensor.name))]
    last = max(layer for layer, what, _ in found if what == "attn_output")
    with path.open("r+b") as file:
        for layer, _, tensor in found:
            if layer != last:
                file.seek(header.data_offset + tensor.offset)
                file.write(b"\0" * tensor.nbytes)


@pytest.mark.parametrize("name", SERVED)
def test_switch_equals_the_row_from_the_start(runtime_dir: Path, toys: Path, tmp_path: Path, name: str) -> None:
    outcome = run(runtime_dir, toys / f"{name}.gguf", tmp_path / "model.gguf", SWITCH)
    assert not outcome.error, outcome.last_error
    prompt_new, right, prompt_old, found, row = outcome.arrays
    size = np.abs(right).max()
    assert row == 1
    effect, difference = np.abs(prompt_new - prompt_old).max(), np.abs(found - right).max()
    assert difference < 1e-5 * size
    assert difference < 0.01 * effect


@pytest.mark.parametrize("name", ["gemma2-dense", "deepseek2-moe", "qwen3next-moe", "falcon-h1-dense"])
def test_state_beside_a_longer_sequence(runtime_dir: Path, toys: Path, tmp_path: Path, name: str) -> None:
    context = {"n_seq_max": 2, "kv_unified": 1}
    outcome = run(runtime_dir, toys / f"{name}.gguf", tmp_path / "model.gguf", STATE, **context)
    assert not outcome.error, outcome.last_error
    prompt_new, right, prompt_old, _, loaded, found = outcome.arrays
    difference = np.abs(found - right).max()
    assert loaded == 1
    assert difference < 1e-5 * np.abs(right).max()
    assert difference < 0.01 * np.abs(prompt_new - prompt_old).max()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rotated_anew_is_refused(runtime_dir: Path, toys: Path, tmp_path: Path, name: str) -> None:
    outcome = run(runtime_dir, toys / f"{name}.gguf", tmp_path / "model.gguf", SWITCH)
    assert outcome.error == "context"
    assert REFUSED[name] in outcome.last_error


def test_positions_of_images_are_refused(runtime_dir: Path, toys: Path, tmp_path: Path) -> None:
    toy, model = toys / "qwen2vl-dense.gguf", tmp_path / "model.gguf"
    assert not run_job(runtime_dir, toy, [PROMPT, ["image", 6, 40]]).error
    outcome = run(runtime_dir, toy, model, [PROMPT, ["image", 6, 40]])
    assert outcome.error == "step: llama_decode: -2"
    assert outcome.last_error == (
        "key 'ggufrope.length_factors': several rows of factors serve text alone, and this batch has the positions of "
        "an image; send text, or use a file whose method has one row"
    )

"""Memory does not grow with the length: no logits are kept but those of one batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import tiny_checkpoint

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
pytestmark = [
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.skipif(sys.platform == "win32", reason="no resource module"),
    pytest.mark.usefixtures("runtime_dir"),
]
N_VOCAB = 1 << 15
SMALL = {"vocab_size": N_VOCAB, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
#: A process of its own: the peak of another test would hide this one's.
CODE = """
import json, resource, sys
from pathlib import Path
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.validate import validate
file, reference, length, flash = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "on"
result = validate(ModelFile.open(file), reference, length=length, flash_attn=flash)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, result.as_json()]))
"""


def peak(file, reference, length, flash="off"):
    command = [sys.executable, "-c", CODE, str(file), str(reference), str(length), flash]
    # glibc would keep freed blocks of 16 MB in its heap, by chance in other places each time (up to 130 MB, whatever
    # the length)
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["gguf", "pytorch"])
def test_peak_memory_does_not_grow_with_the_length(tmp_path, kind):
    """1024 more positions: kept logits would be 134 MB a side in float32, the caches and hidden states are a few MB."""
    file = tiny_checkpoint.make("llama", tmp_path / "hf", **SMALL, max_position_embeddings=4096)
    reference = file if kind == "gguf" else tmp_path / "hf"
    short, _ = peak(file, reference, 512, "on")
    long, result = peak(file, reference, 1536, "on")
    assert long - short < 40e6
    assert [b["end"] for b in result["buckets"]] == [64, 128, 256, 512, 1024, 1536]
    assert all(b["mean_kl"] >= 0 and 0 <= b["top1"] <= 1 for b in result["buckets"])

"""Upstream's toy of every architecture with keys of wrong types: the loader refuses those that we say it refuses."""

from __future__ import annotations

import os
import random
import re
import subprocess

import numpy as np
import pytest
from arch_matrix.driver import NoCompilerError, compile_toys, variants
from load_files import load_files

from ggufrope.errors import OutputError, RuntimeLibraryError
from ggufrope.gguf import TypedValue, ValueType, keys, read_header, rewrite
from ggufrope.modelfile.loading import RULES, faults
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.locate import locate

OF_TYPES = re.compile("wrong type|wrong array|array key not found|is not a string/float32")
#: Where a toy has no such key.
USUAL = {
    keys.FREQ_BASE: 10000, keys.FREQ_BASE_SLIDING: 10000, keys.SCALING_FACTOR: 1, keys.SCALE_LINEAR: 1,
    keys.ATTN_FACTOR: 1, keys.ORIGINAL_CONTEXT: 64, keys.FINETUNED: 1, keys.SLIDING_WINDOW: 16, keys.SLIDING_PATTERN: 2,
    keys.ROPE_PATTERN: 1, keys.FULL_ATTENTION_INTERVAL: 4,
}  # fmt: skip
_MB = 1 << 20


def forms(value: float, n_layer: int):
    """A number in every type, single and as arrays."""
    for kind in ValueType:
        if kind is not ValueType.ARRAY:
            yield _typed(kind, value)
            yield from (TypedValue(ValueType.ARRAY, [_typed(kind, value).value] * n, kind) for n in (n_layer, 4))


def _typed(kind: ValueType, value: float) -> TypedValue:
    fractions = (ValueType.FLOAT32, ValueType.FLOAT64)
    cast = float if kind in fractions else {ValueType.STRING: str, ValueType.BOOL: bool}.get(kind, int)
    try:
        return TypedValue(kind, cast(value))
    except OutputError:
        return TypedValue(kind, cast(1))


@pytest.fixture(scope="module")
def toys(runtime_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    try:
        program = compile_toys(locate(), folder / "program")
    except (NoCompilerError, RuntimeLibraryError) as error:
        pytest.skip(str(error))
    environment = os.environ | {"LD_LIBRARY_PATH": str(runtime_dir)}

    def save(arch: str):
        out = folder / arch
        out.mkdir()
        command = [program, "save", out, f"^{re.escape(arch)}$"]
        subprocess.run(command, env=environment, check=False, capture_output=True)  # some have no toy
        return [path for path in sorted(out.glob("*.gguf")) if path.stat().st_size < 12 * _MB]

    return save, sorted(variants(program, runtime_dir))


@pytest.mark.slow
def test_every_architecture_refuses_the_types_that_we_say(toys, runtime_dir, tmp_path):
    save, archs = toys
    tried, different = 0, []
    for arch in archs:
        for toy in save(arch):
            header = read_header(toy)
            assert not faults(ModelFile(header)), toy
            if load_files(runtime_dir, [toy])[0].outcome in ("refuses", "aborts"):
                continue
            cases = _cases(header, arch)
            paths = [tmp_path / f"{i}.gguf" for i in range(len(cases))]
            for path, (name, value) in zip(paths, cases, strict=True):
                rewrite(header, path, set={name: value})
            for path, case, found in zip(paths, cases, load_files(runtime_dir, paths), strict=True):
                said = any("llama.cpp takes " in str(fault) for fault in faults(ModelFile.open(path)))
                tried += 1
                if said != bool(OF_TYPES.search(found.words)):
                    different.append((arch, case[0], case[1].spelled, said, found))
                path.unlink()
    assert not different
    assert tried > 5000


def _cases(header, arch: str) -> list[tuple[str, TypedValue]]:
    """60 of the rules' keys in some type, by a seed of the architecture's."""
    n_layer, made = header.get(keys.stock(keys.BLOCK_COUNT, arch)), []
    for key in sorted({rule.key for rule in RULES}):
        value = header.get(keys.stock(key, arch))
        value = value.flat[0].item() if isinstance(value, np.ndarray) else value
        number = USUAL.get(key, 0) if value is None or isinstance(value, str) else abs(value)
        made += [(keys.stock(key, arch), form) for form in forms(number, n_layer)]
    return random.Random(arch).sample(made, 60)

"""Real files, byte for byte: every vocabulary of the pinned llama.cpp and every model in ../shared, there and back."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import gguf
import numpy as np
import pytest

from ggufrope.convert.conversion import plan, strip, strip_in_place, write, write_in_place
from ggufrope.errors import NotHonouredError, UnsupportedModelError
from ggufrope.gguf import Layout, TypedValue, ValueType, original_facts, plan_rewrite, read_header, rewrite, write_plan
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime.cache import cache_dir
from ggufrope.runtime.pin import Pin

VOCABULARIES = """aquila baichuan bert-bge command-r deepseek-coder deepseek-llm falcon gemma-4 gpt-2 gpt-neox
    llama-bpe llama-spm mpt nomic-bert-moe phi-3 qwen2 qwen35 refact starcoder""".split()
METHODS = {"ms-poe": {}, "yarn": {"factor": 4.0}, "linear": {"factor": 2.0}, "llama3": {"factor": 8.0}}


@pytest.fixture(scope="session")
def vocabularies(tmp_path_factory):
    """Folder with the vocabularies of the pinned source, which has to be in the cache already."""
    archives = sorted((cache_dir() / "sdist" / Pin.read().sha256[:12]).glob("*.tar.gz"))
    if not archives:
        pytest.skip("the pinned source is not in the cache; scripts/setup puts it there")
    folder = tmp_path_factory.mktemp("vocabularies")
    with tarfile.open(archives[0]) as tar:
        for member in tar:
            name = Path(member.name).name
            if name.startswith("ggml-vocab-") and name.endswith(".gguf"):
                with (folder / name).open("wb") as out:
                    shutil.copyfileobj(tar.extractfile(member), out)
    yield folder
    shutil.rmtree(folder)


def round_trip(source, folder, methods=tuple(METHODS)):
    before, copy, back = source.read_bytes(), folder / "copy.gguf", folder / "back.gguf"
    for name in methods:
        params = METHODS[name]
        try:
            made = plan(ModelFile.open(source), name, params)
        except (UnsupportedModelError, NotHonouredError):
            continue
        write(made, copy)
        assert strip(ModelFile.open(copy), back).restored
        assert back.read_bytes() == before, name
        assert strip_in_place(ModelFile.open(copy)).restored
        assert copy.read_bytes() == before, name
        write_in_place(plan(ModelFile.open(copy), name, params))
        assert strip_in_place(ModelFile.open(copy)).restored
        assert copy.read_bytes() == before, name


def edited_and_back(source, folder):
    """The same below the methods, which some architectures have no use for."""
    header = read_header(source)
    last = header.fields[-1].key
    added = {"ggufrope.method": TypedValue(ValueType.STRING, "x")}
    tensors = {"ggufrope.requires_patched_runtime": np.ones(1, np.float32)}
    edits = {"set": added, "add_tensors": tensors, "remove": [last], "layout": Layout(header.data_offset)}
    rewrite(header, folder / "e.gguf", **edits)
    new = read_header(folder / "e.gguf")
    undo = plan_rewrite(
        new,
        set={last: header.raw(header.field(last))},
        remove=[*added, "ggufrope.padding"],
        drop_tensors=list(tensors),
        restore=original_facts(header),
    )
    write_plan(new, undo, folder / "f.gguf")
    assert undo.restored and (folder / "f.gguf").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_vocabulary_of_the_pinned_source_comes_back(vocabularies, tmp_path, name):
    path = vocabularies / f"ggml-vocab-{name}.gguf"
    edited_and_back(path, tmp_path)
    round_trip(path, tmp_path, ["ms-poe", "yarn"])


def test_the_list_of_vocabularies_is_complete(vocabularies):
    assert sorted(path.name for path in vocabularies.iterdir()) == [
        f"ggml-vocab-{n}.gguf" for n in sorted(VOCABULARIES)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", VOCABULARIES)
def test_gguf_py_reads_the_same_vocabulary(vocabularies, name):
    path = vocabularies / f"ggml-vocab-{name}.gguf"
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    for field in ours.fields:
        value = ours.get(field.key)
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == theirs.fields[field.key].contents()


def test_every_shared_model_comes_back(shared, tmp_path):
    models = sorted((shared / "models").rglob("*.gguf"))
    assert models
    for path in models:
        edited_and_back(path, tmp_path)
        round_trip(path, tmp_path)


def test_the_demo_model_comes_back(tmp_path):
    for path in sorted((Path(__file__).resolve().parents[1] / "models").rglob("*.gguf")):
        round_trip(path, tmp_path)

"""The types of C functions against the headers that declare them."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from ggufrope.runtime.declarations import FUNCTIONS, Check, CheckCallback, InitParams, declared
from ggufrope.runtime.fetch import source_tree

ROOT = Path(__file__).resolve().parents[2]
TYPES = {
    "void": None,
    "bool": ctypes.c_bool,
    "int": ctypes.c_int,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "size_t": ctypes.c_size_t,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "struct ggml_init_params": InitParams,
    "ggufrope_check_callback": CheckCallback,
    "char *": ctypes.c_char_p,
    "void *": ctypes.c_void_p,
    "float *": ctypes.POINTER(ctypes.c_float),
    "size_t *": ctypes.POINTER(ctypes.c_size_t),
    "int *": ctypes.POINTER(ctypes.c_int),
}


def ctype(text):
    """What a type of a C declaration is in ctypes: structs by pointer, and ggml's handles, are plain pointers."""
    text = " ".join(text.replace("const", " ").replace("*", " * ").split())
    if text.startswith("enum "):
        return ctypes.c_int
    if text in TYPES:
        return TYPES[text]
    assert re.fullmatch(r"struct \w+ \*|ggml_\w+_t", text), f"a type that no test knows: {text}"
    return ctypes.c_void_p


def argument(text):
    """The same of one argument, with its name."""
    array = re.fullmatch(r"(.*\w)\s+\w+\[\w*\]", text.strip(), re.DOTALL)
    if array:
        return ctype(f"{array[1]} *")
    return ctype(re.fullmatch(r"(.*?[\s*])\w+", text.strip(), re.DOTALL)[1])


def from_headers(texts):
    text = re.sub(r"//[^\n]*", "", "\n".join(texts))
    found = {}
    for result, name, arguments in re.findall(r"(?:GGML|LLAMA)_API\s+([^;(]*?[\s*])(\w+)\s*\(([^;]*?)\);", text):
        if name in FUNCTIONS:
            given = [] if arguments.strip() == "void" else arguments.split(",")
            found[name] = (ctype(result), *map(argument, given))
    return found


def ours():
    return from_headers([(ROOT / "patches" / "src" / "ggufrope.h").read_text(encoding="utf-8")])


def test_our_functions_are_declared_as_in_their_header():
    header = (ROOT / "patches" / "src" / "ggufrope.h").read_text(encoding="utf-8")
    assert ours() == {name: types for name, types in FUNCTIONS.items() if name.startswith("ggufrope_")}
    assert set(re.findall(r"LLAMA_API [^;]*?(ggufrope_\w+)\(", header)) == set(ours()), "one is missing here"


def test_functions_of_ggml_are_declared_as_in_the_pinned_headers():
    folder = source_tree() / "ggml" / "include"
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("ggml.h", "ggml-backend.h")]
    found = from_headers(texts)
    assert found == {name: types for name, types in FUNCTIONS.items() if not name.startswith("ggufrope_")}
    text = (folder / "ggml.h").read_text(encoding="utf-8")
    assert [name for _, name in members(text, "ggml_init_params")] == [name for name, _ in InitParams._fields_]


def members(text, struct):
    """Types and names of a struct's members."""
    inside = re.search(rf"struct {struct} \{{(.*?)\}};", text, re.DOTALL)[1]
    return re.findall(r"(\w[\w ]*[\s*]+)(\w+)\s*;", re.sub(r"//[^\n]*", "", inside))


def test_our_struct_is_as_in_its_header():
    header = (ROOT / "patches" / "src" / "ggufrope.h").read_text(encoding="utf-8")
    found = [(name, ctype(kind)) for kind, name in members(header, "ggufrope_check")]
    assert found == list(Check._fields_)
    callback = re.search(r"typedef void \(\*ggufrope_check_callback\)\((.*?)\);", header)[1]
    assert callback == "const struct ggufrope_check * check, void * user_data"
    assert (CheckCallback._restype_, *CheckCallback._argtypes_) == (None, ctypes.POINTER(Check), ctypes.c_void_p)


def test_a_function_gets_its_types():
    class Function:
        argtypes = restype = "undeclared"

    class Library:
        ggufrope_method, ggufrope_last_error = Function(), Function()

    function = declared(Library(), "ggufrope_method")
    assert (function.restype, function.argtypes) == (ctypes.c_char_p, [ctypes.c_void_p])
    assert declared(Library(), "ggufrope_last_error").argtypes == []
    with pytest.raises(AttributeError):
        declared(Library(), "ggufrope_n_scores")


def test_no_other_module_declares_types():
    """Declared twice, the second declaration wins for everybody: the function object is the library's."""
    package = ROOT / "ggufrope"
    users = [p for p in package.rglob("*.py") if re.search(r"\.(argtypes|restype)\b", p.read_text(encoding="utf-8"))]
    assert [p.relative_to(package).as_posix() for p in users] == ["runtime/declarations.py"]

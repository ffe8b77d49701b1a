import gguf
import pytest

from ggufrope.gguf.ggml_types import GGML_TYPES, tensor_nbytes

# gguf-py 0.19 takes the two scales of Q8_1 for float32; in ggml (and in gguf-py at the pin) they are float16
WRONG_IN_GGUF_PY = {9}


def test_sizes_and_names_are_those_of_gguf_py():
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    ours = {number: tuple(kind) for number, kind in GGML_TYPES.items()}
    differing = {number for number, kind in theirs.items() if ours.get(number) != kind}
    assert differing <= WRONG_IN_GGUF_PY


def test_nbytes():
    assert tensor_nbytes((256, 3), 12) == 3 * 144
    assert tensor_nbytes((), 0) == 4
    assert tensor_nbytes((0, 7), 8) == 0
    with pytest.raises(ValueError, match="rows of 255 elements are not a whole number of Q4_K blocks of 256"):
        tensor_nbytes((255, 256), 12)
    with pytest.raises(KeyError):
        tensor_nbytes((1,), 4)

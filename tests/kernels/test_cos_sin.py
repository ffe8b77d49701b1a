"""``ggml-cpu/cos-sin.h``, which gives ropes with several rows their cosines on the CPU, against float64.

The oracle is libm in double precision. Each build of the header is held to it: compilers make vectors of it in several
ways, or none.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from on_cpu import patched_tree

#: Largest error in units of the last place; a half is rounding itself. Over all 1.28 billion positive normal floats up
#: to the limit it is 0.500012, and 0.561 for glibc's sinf and cosf.
ALLOWED = 0.5001
LIMIT = 2.0**27
FLAGS = {"plain": ["-O0"], "vectors": ["-O3"], "no-fma": ["-O3", "-ffp-contract=off"], "native": ["-O3"]}
if platform.machine() in {"x86_64", "AMD64"}:
    FLAGS["native"] += ["-march=native"]

CosSin = Callable[..., np.ndarray]


@pytest.fixture(scope="module", params=FLAGS)
def cos_sin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CosSin:
    """Cosine and sine ``[n, 2]`` of angles ``[n]``; ``mutations.py`` gives a tree with a broken header."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the header with")
    built = tmp_path_factory.mktemp("cos-sin")
    given = os.environ.get("GGUFROPE_KERNEL_TREE")
    tree = Path(given) if given else patched_tree(built / "tree", also=())
    (built / "cos_sin.cpp").write_text(
        '#include "cos-sin.h"\n'
        'extern "C" void cos_sin(const float * a, int64_t n, float c, float s, float * o)'
        " { ggml_cos_sin(a, n, c, s, o); }\n"
    )
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", *FLAGS[request.param], "-shared", "-fPIC"]
    command += [f"-I{tree / 'ggml/src/ggml-cpu'}", str(built / "cos_sin.cpp"), "-o", str(built / "cos_sin.so")]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(built / "cos_sin.so")).cos_sin
    function.restype, pointer = None, np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
    function.argtypes = [pointer, ctypes.c_int64, ctypes.c_float, ctypes.c_float, pointer]

    def call(angles: np.ndarray, cos_scale: float = 1, sin_scale: float = 1) -> np.ndarray:
        out = np.full((len(angles) + 1, 2), 7, np.float32)
        function(angles, len(angles), cos_scale, sin_scale, out)
        assert (out[-1] == 7).all()
        return out[:-1]

    return call


def worst(got: np.ndarray, angles: np.ndarray) -> float:
    """Largest error in float32's units of the last place, at the true values."""
    true = np.stack([np.cos(angles.astype(np.float64)), np.sin(angles.astype(np.float64))], axis=1)
    return float(np.max(np.abs(got - true) / np.spacing(np.abs(true).astype(np.float32)).astype(np.float64)))


def around_quarter_turns(quarters: np.ndarray) -> np.ndarray:
    """The floats next to multiples of pi/4: where the quadrant changes, and where cosine or sine all but vanish."""
    nearest = (quarters * (np.pi / 4)).astype(np.float32)
    both = np.concatenate([np.nextafter(nearest, np.float32(0)), nearest, np.nextafter(nearest, np.float32(np.inf))])
    return both[both <= LIMIT]


@pytest.mark.parametrize("largest", [1.0, 10.0, 4096.0, 32768.0, 2.0**20, LIMIT])
def test_random_angles(cos_sin: CosSin, largest: float) -> None:
    angles = np.random.default_rng(0).uniform(-largest, largest, 300_001).astype(np.float32)
    assert worst(cos_sin(angles), angles) <= ALLOWED


def test_every_power_of_two_down_to_the_smallest(cos_sin: CosSin) -> None:
    powers = 2.0 ** np.arange(-126, 27)
    mantissas = 1 + np.random.default_rng(1).uniform(0, 1, 2000)
    angles = (powers[:, None] * mantissas).astype(np.float32).ravel()
    assert worst(cos_sin(angles), angles) <= ALLOWED
    assert cos_sin(np.zeros(3, np.float32)).tolist() == [[1, 0]] * 3


@pytest.mark.parametrize("first", [1, 10**6, int(LIMIT * 4 / np.pi) - 200_000])
def test_where_quadrants_meet(cos_sin: CosSin, first: int) -> None:
    angles = around_quarter_turns(np.arange(first, first + 200_000))
    assert worst(cos_sin(angles), angles) <= ALLOWED
    assert worst(cos_sin(-angles), -angles) <= ALLOWED


def test_the_floats_that_come_nearest_to_a_quarter_turn(cos_sin: CosSin) -> None:
    """Found by trying every multiple up to the limit: of a cosine of 4e-9, pi with 52 bits would leave little."""
    angles = np.array([252.89820861816406, 505.7964172363281, 42781604, 4.71238899230957, 52516.43359375], np.float32)
    assert worst(cos_sin(angles), angles) <= ALLOWED


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 16, 33])
def test_any_count_and_scales(cos_sin: CosSin, count: int) -> None:
    """Loop remainders give the same values as whole vectors, and each result has its own scale."""
    angles = np.linspace(-9, 9, 64).astype(np.float32)
    np.testing.assert_array_equal(cos_sin(angles[:count]), cos_sin(angles)[:count])
    np.testing.assert_array_equal(cos_sin(angles[:count], 0.5, -4), cos_sin(angles)[:count] * np.float32([0.5, -4]))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 2.0**27 + 16, -(2.0**31), 3e38])
def test_what_cannot_be_reduced_goes_to_libm(cos_sin: CosSin, odd: float) -> None:
    angles = np.linspace(0, 50, 37).astype(np.float32)
    angles[20] = odd
    got, finite = cos_sin(angles), np.isfinite(angles)
    assert worst(got[finite], angles[finite]) <= 1  # libm's own
    assert np.isnan(got[~finite]).all()

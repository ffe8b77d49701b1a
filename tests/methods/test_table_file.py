"""Files of factors: what is written is read again, and what is none is refused in one line."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

from ggufrope.errors import OutputError, ParameterError
from ggufrope.methods import table_file
from ggufrope.methods.table_file import read_table, write_table

FULL = np.exp(np.random.default_rng(1).normal(0, 0.1, (3, 2, 4)))
RAGGED = [[[1.5, 1.25]], [], [[1.0, 0.5], [2.0, 4.0]]]
LAYOUT = ["layer", "head", "pair"]
MODEL = {"architecture": "llama", "n_head": [4]}


def values(table):
    return np.concatenate([np.ravel(part) for part in table.factors])


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize(
    ("factors", "axes", "flat"),
    [
        ([1.0, 1.5, 0.25], ["pair"], [1.0, 1.5, 0.25]),
        (FULL, LAYOUT, FULL.ravel()),
        (FULL.ravel(), LAYOUT, FULL.ravel()),
        (FULL[:, :, 0], ["layer", "head"], FULL[:, :, 0].ravel()),
        (RAGGED, LAYOUT, [1.5, 1.25, 1.0, 0.5, 2.0, 4.0]),
        ([np.array([1.5]), np.array([2.0, 0.5])], ["layer", "head"], [1.5, 2.0, 0.5]),
    ],
)
def test_what_is_written_is_read(tmp_path, suffix, factors, axes, flat):
    path = tmp_path / f"t{suffix}"
    params = {"seed": 7, "texts": ["ä"]}
    write_table(path, factors, axes, attn_scale=1.25, model=MODEL, params=params)
    read = read_table(path)
    assert values(read).tolist() == list(flat)  # to the last bit
    assert read.axes == tuple(axes)
    assert (read.attn_scale, read.model, read.params, read.origin) == (1.25, MODEL, params, str(path))
    before = path.read_bytes()
    write_table(path, factors, axes, attn_scale=1.25, model=MODEL, params=params)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_numpy_s_own_writer_and_numbers_alone(tmp_path):
    np.savez_compressed(tmp_path / "t.npz", factors=FULL.astype(np.float32))
    assert values(read_table(tmp_path / "t.npz")) == pytest.approx(FULL.ravel(), rel=1e-7)
    np.savez(tmp_path / "whole.npz", factors=np.arange(1, 5))
    assert values(read_table(tmp_path / "whole.npz")).tolist() == [1.0, 2.0, 3.0, 4.0]
    (tmp_path / "t.table").write_text("[[1, 2], [3, 4.5]]")  # the name says nothing
    assert values(read_table(tmp_path / "t.table")).tolist() == [1.0, 2.0, 3.0, 4.5]


def test_a_bad_table_is_not_written(tmp_path):
    path = tmp_path / "t.npz"
    path.write_bytes(b"before")
    for factors, axes in ((FULL * 0, LAYOUT), (FULL, ["pair"]), ([1.0, float("nan")], ["pair"]), ([], ["pair"])):
        with pytest.raises(ParameterError, match=r"t\.npz: "):
            write_table(path, factors, axes)
    with pytest.raises(ParameterError, match='"params" cannot be written as JSON'):
        write_table(path, [1.0], ["pair"], params={"loss": float("nan")})
    with pytest.raises(OutputError, match=r"t\.csv: a table is written as .json or .npz; give it such a name"):
        write_table(tmp_path / "t.csv", [1.0], ["pair"])
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"neither an .npz nor JSON \(.*\); make it again"),
        ("\ufeff[1", "neither an .npz nor JSON"),
        ("3", r"factors: a list of numbers is needed, found 3"),
        ("[]", r"factors: a list of numbers is needed, found \[\]"),
        ("null", "factors: a list of numbers is needed, found None"),
        ('"given"', "its factors are in keys of the file that it stands in; give the numbers"),
        ("{}", 'no "factors" found; it must read'),
        ('{"ratios": [[1]]}', 'no "factors" found'),
        (
            '{"factors": [1], "fcators": 3}',
            "'fcators': not known here; it may have factors, axes, attn_scale, ",
        ),
        ('[1, "2"]', r"factors\[1\]: a number is needed, found '2'"),
        ("[1, true]", r"factors\[1\]: a number is needed, found True"),
        ("[1, null]", r"factors\[1\]: a number is needed, found None"),
        ("[[1], 2]", r"factors\[1\]: a list as the others are is needed, found 2"),
        ("[[[1, 2], [3]]]", r"factors\[0\]: its rows differ in length; heads of one layer have as many pairs each"),
        ("[[[[1]]]]", r"factors\[0\]\[0\]\[0\]: a number is needed, found \[1\]"),
        ("[" * 5000, "neither an .npz nor JSON"),
        ("[1, NaN]", r"factors\[1\] is nan; it must be a finite number above 0 that fits into float32"),
        ("[[1, 2], [3, 0]]", r"factors\[1\]\[1\] is 0; it must be"),
        ("[1" + "0" * 400 + "]", r"factors\[0\]: a number is too large for floating point"),
        ('{"factors": [1], "axes": "pair"}', "\"axes\" is 'pair'; a list of names is needed, such as"),
        ('{"factors": [1], "axes": [1]}', r'"axes" is \[1\]; a list of names is needed'),
        ('{"factors": [1], "axes": ["pairs"]}', r'"axes" is \[pairs\]; it is \[pair\] or \[layer\] or'),
        ('{"factors": [1], "attn_scale": "1"}', "\"attn_scale\" is '1'; a number is needed"),
        ('{"factors": [1], "attn_scale": 0}', '"attn_scale" is 0; it must be a finite number above 0'),
        ('{"factors": [1], "model": "llama"}', "\"model\" is 'llama'; an object is needed"),
        ('{"factors": [1], "params": [3]}', r'"params" is \[3\]; an object is needed'),
        ('{"factors": [1], "params": {"x": NaN}}', '"params" cannot be written as JSON'),
        (
            '{"factors": [1], "params": {"x": "' + "y" * 70000 + '"}}',
            r'"params" has 70 kB; a GGUF takes at most 65',
        ),
    ],
)
def test_json_that_is_no_table(tmp_path, text, said):
    path = tmp_path / "t.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError, match=rf"^{path}: {said}") as told:
        read_table(path)
    assert "\n" not in str(told.value)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(name, data, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


GOOD = npz(factors=FULL)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GOOD[:100], r"a damaged .npz \(File is not a zip file\); make it again"),
        (GOOD[:80] + bytes([GOOD[80] ^ 255]) + GOOD[81:], r"a damaged .npz \("),
        (zipped("factors.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': 1"), r"a damaged .npz \("),
        (zipped("factors.npy", b""), r"a damaged .npz \("),
        (npz(factors=np.array([{"a": 1}], dtype=object)), r"a damaged .npz \(.*[Oo]bject arrays"),
        (npz(factors=np.array(["1.0"])), r"factors: an array of 1 to 3 axes of numbers is needed, found 1 of type <U3"),
        (npz(factors=np.array([1 + 2j])), "found 1 of type complex128"),
        (npz(factors=np.array([True])), "found 1 of type bool"),
        (npz(factors=np.float64(2.0)), "found one of type float64"),
        (npz(factors=np.ones((1, 1, 1, 1))), "found 1 × 1 × 1 × 1 of type float64"),
        (npz(factors=np.ones((0, 3))), "found 0 × 3 of type float64"),
        (npz(arr_0=np.ones(3)), 'no "factors" found'),
        (npz(factors=np.ones(3), axes=np.array("pair")), "\"axes\" is 'pair'; a list of names"),
        (npz(factors=np.ones(3), attn_scale=np.ones(2)), r'"attn_scale" is \[1.0, 1.0\]; a number is needed'),
        (npz(factors=np.ones(3), params=np.array("{")), r'"params" is no string of JSON \('),
        (npz(factors=np.ones(3), model=np.array(3)), r'"model" is no string of JSON \('),
        (b"\x93NUMPY\x01\x00", r"is a single array; save it by numpy.savez\(FILE, factors=array\)"),
        (b"\xff\xfe[1]", r"not UTF-8 text \(byte 0\)"),
        (b"", "neither an .npz nor JSON"),
    ],
)
def test_bytes_that_are_no_table(tmp_path, data, said):
    path = tmp_path / "t.npz"
    path.write_bytes(data)
    with pytest.raises(ParameterError, match=rf"^{path}: .*{said}") as told:
        read_table(path)
    assert "\n" not in str(told.value)


def test_no_damage_is_more_than_a_refusal(tmp_path):
    """Every byte of an archive in turn, and every length."""
    path, whole = tmp_path / "t.npz", npz(factors=FULL[:1], axes=np.array(LAYOUT), params=np.array('{"seed": 1}'))
    refused = 0
    for at in range(0, len(whole), 3):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            path.write_bytes(data)
            try:
                read_table(path)
            except ParameterError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 0.3 * len(whole)


def test_what_is_too_large_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_LARGEST", 4000)
    path = tmp_path / "t.npz"
    path.write_bytes(zipped("factors.npy", bytes(100_000), compression=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 4000
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ParameterError, match="unpacks to 100 kB; a table has at most 4 kB"):
        read_table(path)
    path.write_text(json.dumps([1.0] * 2000))
    with pytest.raises(ParameterError, match=r"has 10 kB; a table of factors has at most 4 kB"):
        read_table(path)


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ParameterError, match=rf"^{path}: cannot be read \(.*\); check its name and permissions"):
            read_table(path)

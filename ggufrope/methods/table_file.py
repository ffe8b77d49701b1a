"""Files of divisors: JSON, or numpy's ``.npz``. Read with limits, numbers and text alone; written whole or not at all.

JSON: ``{"factors": [...], "axes": ["layer", "head", "pair"], "attn_scale": 1.0, "model": {...}, "params": {...}}``, or
the numbers alone; all but ``factors`` may be absent. ``.npz``: arrays of the same names; ``axes`` of strings, ``model``
and ``params`` a string of JSON each. Where layers differ in KV heads or pairs, JSON has shorter rows for some of them,
and either may have all numbers in one flat list in the order of ``axes``. docs/table.md is for people.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.errors import OutputError, ParameterError
from ggufrope.files import decoded, read_bytes, write_bytes
from ggufrope.late import np
from ggufrope.methods.factor_table import AXES, GIVEN, FactorTable
from ggufrope.text import shorten, size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["check_table_name", "read_table", "table_from_json", "write_table"]

_LARGEST = 64 << 20  # bytes of a file, and of the arrays in one
_RECORD = 64 << 10  # bytes of ``params``, which goes into a GGUF's header
_NAMES = ("factors", "axes", "attn_scale", "model", "params")
_ZIP = b"PK\x03\x04"
_MAKE = 'make it again (docs/table.md), or give the numbers as JSON: {"factors": [...]}'


def read_table(path: Path) -> FactorTable:
    """A table from a JSON file or an ``.npz``, told apart by their first bytes.

    Raises:
        ParameterError: unreadable, too large, damaged, or of another content.
    """
    try:
        length = path.stat().st_size
    except OSError as problem:
        raise ParameterError(f"{path}: cannot be read ({problem.strerror}); check its name and permissions") from None
    if length > _LARGEST:
        raise ParameterError(f"{path}: has {size(length)}; a table of factors has at most {size(_LARGEST)}")
    data = read_bytes(path, ParameterError)
    if data.startswith(_ZIP):
        return table_from_json(_members(path, data), str(path))
    if data.startswith(b"\x93NUMPY"):
        raise ParameterError(f"{path}: is a single array; save it by numpy.savez(FILE, factors=array)")
    try:
        value = json.loads(decoded(path, data, error=ParameterError))
    except (ValueError, RecursionError) as problem:
        raise ParameterError(f"{path}: neither an .npz nor JSON ({problem}); {_MAKE}") from None
    return table_from_json(value, str(path))


def table_from_json(value: Any, origin: str = "table") -> FactorTable:
    """A table from what a file of it says, or from its numbers alone, nested lists or an array.

    Args:
        value: the object, or the numbers.
        origin: the file, for messages.

    Raises:
        ParameterError: something else.
    """
    told = value if isinstance(value, Mapping) else {"factors": value}
    if "factors" not in told:
        raise ParameterError(f'{origin}: no "factors" found; it must read {{"factors": [one for each ...]}}')
    if strange := sorted(map(str, told.keys() - {*_NAMES, "sha256"})):
        raise ParameterError(
            f"{origin}: {shorten(', '.join(strange))}: not known here; it may have {', '.join(_NAMES)}"
        )
    axes, scale = told.get("axes") or (), told.get("attn_scale", 1.0)
    if isinstance(axes, str) or not isinstance(axes, Sequence) or not all(isinstance(axis, str) for axis in axes):
        raise ParameterError(f'{origin}: "axes" is {shorten(axes)}; a list of names is needed, such as {list(AXES[2])}')
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise ParameterError(f'{origin}: "attn_scale" is {shorten(scale)}; a number is needed')
    return FactorTable(
        _factors(told["factors"], origin),
        tuple(axes),
        _float(scale, f'{origin}: "attn_scale"'),
        _object(told, "model", origin),
        _record(_object(told, "params", origin) or {}, origin),
        origin,
    )


def write_table(
    path: Path,
    factors: ArrayLike | Sequence[ArrayLike],
    axes: Sequence[str],
    *,
    attn_scale: float = 1.0,
    model: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> None:
    """Write a table that ``read_table`` reads, as JSON where the name ends so, else as ``.npz``.

    Args:
        path: ``*.json`` or ``*.npz``; it is replaced in one step.
        factors: divisors by ``axes``; for each layer an array, where layers differ; or all in one flat array.
        axes: one of ``AXES``.
        attn_scale: what multiplies cos and sin.
        model: what it was made for: ``Identity.as_json()`` of it. Other models refuse the table.
        params: how it was made, ready for JSON; it becomes a part of ``ggufrope.params``.

    Raises:
        ParameterError: factors or parameters that no reader would take.
        OutputError: another suffix, or it cannot be written.
    """
    check_table_name(path)
    told: dict[str, Any] = {"factors": factors, "axes": list(axes), "attn_scale": float(attn_scale)}
    told |= {name: value for name, value in (("model", model), ("params", params)) if value}
    table = table_from_json(told, str(path))
    if path.suffix == ".json":
        told["factors"] = _listed(table.factors)
        write_bytes(path, (json.dumps(told, allow_nan=False) + "\n").encode())
        return
    parts = table.factors if isinstance(table.factors, tuple) else (table.factors,)
    alike = isinstance(table.factors, tuple) and len({part.shape for part in parts}) == 1
    arrays: dict[str, Any] = {
        "factors": np.stack(parts) if alike else np.concatenate([part.ravel() for part in parts]),
        "axes": np.array(list(axes)),
        "attn_scale": np.float64(attn_scale),
        **{name: np.array(json.dumps(told[name], allow_nan=False)) for name in ("model", "params") if name in told},
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def check_table_name(path: Path) -> None:
    """Refuse a name by which no table can be written; for whoever works long before one is.

    Raises:
        OutputError: it ends neither in ``.json`` nor in ``.npz``.
    """
    if path.suffix not in (".json", ".npz"):
        raise OutputError(f"{path}: a table is written as .json or .npz; give it such a name")


def _members(path: Path, data: bytes) -> dict[str, Any]:
    """What an ``.npz`` says, as an object of JSON would; ``factors`` an array."""
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (length := sum(info.file_size for info in archive.infolist())) > _LARGEST:
                raise ParameterError(f"{path}: unpacks to {size(length)}; a table has at most {size(_LARGEST)}")
            arrays = {
                info.filename.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(info)), allow_pickle=False
                )
                for info in archive.infolist()
            }
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        MemoryError,
    ) as problem:
        raise ParameterError(f"{path}: a damaged .npz ({_line(problem)}); {_MAKE}") from None
    told = {name: array if name == "factors" else array.tolist() for name, array in arrays.items()}
    for name in ("model", "params"):
        if name in told:
            told[name] = _unpacked(told[name], f'{path}: "{name}"')
    return told


def _unpacked(text: Any, what: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as problem:
        raise ParameterError(f"{what} is no string of JSON ({_line(problem)}); {_MAKE}") from None


def _factors(value: Any, origin: str) -> NDArray[np.float64] | tuple[NDArray[np.float64], ...]:
    if isinstance(value, str) and value == GIVEN:
        raise ParameterError(f"{origin}: its factors are in keys of the file that it stands in; give the numbers")
    read = _numbers(value, f"{origin}: factors", 3)
    if not isinstance(read, tuple) and read.ndim > 1:
        return tuple(read)
    return read


def _numbers(value: Any, what: str, depth: int) -> NDArray[np.float64] | tuple[NDArray[np.float64], ...]:
    """Nested numbers as an array, or by their first axis where the rest of them differ in shape."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu" or not 1 <= value.ndim <= depth or not value.size:
            raise ParameterError(f"{what}: an array of 1 to {depth} axes of numbers is needed, found {_kind(value)}")
        return np.asarray(value, dtype=np.float64)
    if not isinstance(value, (list, tuple)) or not value:
        raise ParameterError(f"{what}: a list of numbers is needed, found {shorten(value)}")
    nested = [isinstance(one, (list, tuple, np.ndarray)) for one in value]
    if not any(nested):
        return np.array([_number(one, f"{what}[{i}]") for i, one in enumerate(value)])
    if not all(nested) or depth == 1:
        odd = nested.index(False) if not all(nested) else 0
        needed = "a list as the others are" if depth > 1 else "a number"
        raise ParameterError(f"{what}[{odd}]: {needed} is needed, found {shorten(value[odd])}")
    parts = [_empty(one) if not len(one) else _numbers(one, f"{what}[{i}]", depth - 1) for i, one in enumerate(value)]
    if any(isinstance(part, tuple) for part in parts):
        i = next(i for i, part in enumerate(parts) if isinstance(part, tuple))
        raise ParameterError(f"{what}[{i}]: its rows differ in length; heads of one layer have as many pairs each")
    return tuple(parts) if depth == 3 else _stacked(parts)  # type: ignore[arg-type]  # no tuples among them


def _stacked(parts: list[NDArray[np.float64]]) -> NDArray[np.float64] | tuple[NDArray[np.float64], ...]:
    return np.stack(parts) if len({part.shape for part in parts}) == 1 else tuple(parts)


def _empty(_: Any) -> NDArray[np.float64]:
    return np.empty(0)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ParameterError(f"{what}: a number is needed, found {shorten(value)}")
    return _float(value, what)


def _float(value: Any, what: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ParameterError(f"{what}: a number is too large for floating point; correct it there") from None


def _object(told: Mapping[str, Any], name: str, origin: str) -> Mapping[str, Any] | None:
    value = told.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise ParameterError(f'{origin}: "{name}" is {shorten(value)}; an object is needed')
    return value


def _record(params: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    try:
        length = len(json.dumps(params, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as problem:
        raise ParameterError(f'{origin}: "params" cannot be written as JSON ({_line(problem)}); correct it') from None
    if length > _RECORD:
        raise ParameterError(f'{origin}: "params" has {size(length)}; a GGUF takes at most {size(_RECORD)} of it')
    return params


def _listed(factors: NDArray[np.float64] | tuple[NDArray[np.float64], ...]) -> list[Any]:
    return [part.tolist() for part in factors] if isinstance(factors, tuple) else factors.tolist()


def _kind(array: NDArray[Any]) -> str:
    return f"{' × '.join(map(str, array.shape)) or 'one'} of type {array.dtype}"


def _line(problem: BaseException) -> str:
    return str(problem).split("\n", maxsplit=1)[0][:80] or type(problem).__name__

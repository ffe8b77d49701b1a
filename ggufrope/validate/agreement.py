"""Whether two GGUF files are the same model, and whether they rotate alike: from their headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ggufrope.errors import InputError
from ggufrope.gguf import Header, keys
from ggufrope.modelfile.decoded import Decoded
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable
from ggufrope.text import shorten

__all__ = ["require_same_model", "rotation_gap"]

_TOKENIZER = (keys.TOKENIZER_MODEL, keys.TOKENS, keys.MERGES)
#: Belong to a method, not to the model.
_OF_METHODS = frozenset({keys.ROPE_FREQS, keys.ROPE_LONG, keys.ROPE_SHORT, keys.SENTINEL})
_RTOL = 1e-6  # float32 keys carry 6e-8


def require_same_model(file: Sequence[Header], reference: Sequence[Header]) -> None:
    """Refuse two files whose log-probabilities at one position are not about the same thing.

    Compared are the architecture, the tokens and their merges, the architecture's own keys (heads, widths, norms, ...)
    and the shapes of all tensors; not types, names, contexts, nor anything about rope.

    Args:
        file: headers of all shards of the one model.
        reference: of the other.

    Raises:
        InputError: the first difference.
    """
    for difference in (_architecture, _tokenizer, _settings, _shapes):
        gap = difference(file, reference)
        if gap:
            raise InputError(
                f"{file[0].path} and {reference[0].path} are not the same model: {gap}; "
                "give the reference that FILE was made from"
            )


def rotation_gap(file: Decoded, reference: Decoded) -> str:
    """In what two files of one model rotate differently, in words; empty when they rotate alike.

    Compared is what the patched runtime applies, whatever keys or names it comes from.
    """
    if file.model.rot_dim != reference.model.rot_dim:
        return f"{file.model.rot_dim} rotated dimensions of each head against {reference.model.rot_dim}"
    kinds = [file.model.slides(layer) for layer in file.model.one_of_each_kind()]
    gap = next((gap for sliding in kinds if (gap := _kind_gap(file, reference, sliding))), "")
    gap = gap or _heads_gap(file, reference)
    if not gap and file.head_order != reference.head_order:
        gap = f"head order {file.head_order} against {reference.head_order}"
    return f"{_says(file)} against {_says(reference)}: {gap}" if gap else ""


def _architecture(file: Sequence[Header], reference: Sequence[Header]) -> str:
    a, b = file[0].architecture, reference[0].architecture
    return "" if a == b else f"architecture {a} against {b}"


def _tokenizer(file: Sequence[Header], reference: Sequence[Header]) -> str:
    for key in _TOKENIZER:
        fields = [(header, header.field(key)) for header in (file[0], reference[0])]
        raw = [header.raw(field) if field else b"" for header, field in fields]
        if raw[0] == raw[1]:
            continue
        a, b = (header.get(key) for header, _ in fields)
        if not (isinstance(a, list) and isinstance(b, list)):
            return f"{key} is {_present(a)} against {_present(b)}"
        if len(a) != len(b):
            return f"{key} has {len(a)} entries against {len(b)}"
        index = next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), 0)
        return f"entry {index} of {key} is {shorten(a[index])} against {shorten(b[index])}"
    return ""


def _settings(file: Sequence[Header], reference: Sequence[Header]) -> str:
    arch = file[0].architecture
    rope, context = keys.stock(keys.ROPE, arch), keys.stock(keys.CONTEXT_LENGTH, arch)
    for field in file[0].fields:
        of_model = field.key.startswith(f"{arch}.") and not field.key.startswith(rope) and field.key != context
        if not of_model or field.key not in reference[0]:
            continue
        a, b = file[0].get(field.key), reference[0].get(field.key)
        if not np.array_equal(a, b):
            return f"{field.key} is {shorten(a)} against {shorten(b)}"
    return ""


def _shapes(file: Sequence[Header], reference: Sequence[Header]) -> str:
    a, b = (
        {info.name: info.shape for header in side for info in header.tensors if info.name not in _OF_METHODS}
        for side in (file, reference)
    )
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            shown = [" × ".join(map(str, side[name])) if name in side else "absent" for side in (a, b)]
            return f"tensor {name} is {shown[0]} against {shown[1]}"
    return ""


def _kind_gap(file: Decoded, reference: Decoded, sliding: bool) -> str:
    """In what layers of one kind differ, with a sliding window or without; head ratios aside."""
    mine, theirs = (_Kind.of(decoded, sliding) for decoded in (file, reference))
    a, b = mine.table, theirs.table
    where = "in sliding-window layers " if sliding else ""
    by_length = (file.by_length, a.length_points[:-1]), (reference.by_length, b.length_points[:-1])
    if a.n_rows != b.n_rows or (a.n_rows > 1 and by_length[0] != by_length[1]):
        return f"{where}rows for lengths {_points(file, a)} against {_points(reference, b)}"
    if a.n_pairs != b.n_pairs:
        return f"{where}{2 * a.n_pairs} rotated dimensions of each head against {2 * b.n_pairs}"
    if worst := _furthest(mine.frequencies(), theirs.frequencies()):
        row, pair, turns, wanted = worst
        of_row = f" of row {row + 1:.0f} of {a.n_rows}" if a.n_rows > 1 else ""  # rows are counted from 1 for people
        return f"{where}pair {pair:.0f}{of_row} turns at {turns:.6g} against {wanted:.6g} radians per token"
    if worst := _furthest(a.attn_scale, b.attn_scale):
        return where + "cos and sin are multiplied by {1:.6g} against {2:.6g}".format(*worst)
    return ""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What layers of one kind have: facts and table."""

    model: ModelRope
    table: RopeTable

    @classmethod
    def of(cls, decoded: Decoded, sliding: bool) -> _Kind:
        if sliding:
            return cls(decoded.model.of_sliding, decoded.table.of_sliding)
        return cls(decoded.model, decoded.table)

    def frequencies(self) -> npt.NDArray[np.float64]:
        """``(n_rows, rot_dim/2)`` radians per token, head ratios aside."""
        own = np.asarray(self.model.own_factors or 1.0)
        return np.asarray(self.model.base_frequencies() / own / self.table.factors)


def _heads_gap(file: Decoded, reference: Decoded) -> str:
    for layer, n_heads in enumerate(file.model.n_head_kv):
        n_pairs = file.model.n_pairs_of(layer)
        a, b = (_head_rows(d.table, layer, (n_heads, n_pairs)) for d in (file, reference))
        for head in range(n_heads):
            if worst := _furthest(a[head], b[head]):
                pair, mine, theirs = worst
                alike = not (np.ptp(a[head]) or np.ptp(b[head]))
                where = f"the ratio of layer {layer}, KV head {head}" + ("" if alike else f", pair {pair}")
                return f"{where} is {mine:.6g} against {theirs:.6g}"
    return ""


def _head_rows(table: RopeTable, layer: int, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """What heads have of their own, ``(n_head_kv, rot_dim/2)``."""
    rows = table.head_rows(layer)
    fits = rows.shape[1] in (1, shape[1])  # otherwise they are 1: see RopeTable.of_pairs
    return np.broadcast_to(rows if fits else np.ones((1, 1)), shape)


def _furthest(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Index and both values of the entry that differs most, in proportion; empty when none differs."""
    gap = np.abs(a / b - 1)
    if gap.max() <= _RTOL:
        return ()
    at = np.unravel_index(gap.argmax(), gap.shape)
    return (*map(int, at), float(a[at]), float(b[at]))


def _says(decoded: Decoded) -> str:
    factor = decoded.params.get("base", decoded.params).get("factor")
    return decoded.method + (f" × {factor:g}" if isinstance(factor, (int, float)) else "")


def _points(decoded: Decoded, table: RopeTable) -> str:
    if table.n_rows == 1:
        return "(one for all)"
    return shorten(list(table.length_points)) + ("" if decoded.by_length else " (by the allocated context)")


def _present(value: object) -> str:
    if value is None:
        return "absent"
    return f"a list of {len(value)}" if isinstance(value, list) else shorten(value)

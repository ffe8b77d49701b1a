"""GGUF to GGUF: decide what changes (a ``Conversion``), then write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.convert.conversion_notes import conversion_notes
from ggufrope.convert.encoding import encode, encode_unrotated
from ggufrope.convert.saving import Progress, Saved, save_as, save_in_place
from ggufrope.errors import ParameterError
from ggufrope.gguf import drop_ahead, keys
from ggufrope.methods import METHODS, PLAIN, Method, scaling_method
from ggufrope.methods.fitted import fit
from ggufrope.modelfile.edited import EditedSource
from ggufrope.modelfile.encoded import Edit
from ggufrope.modelfile.facts import train_context
from ggufrope.modelfile.mended import Mended, mend, require_loadable
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.original import Source
from ggufrope.modelfile.stock_values import require_sense
from ggufrope.modelfile.verdict import Verdict, verdict_of_edit
from ggufrope.rope.model import ModelRope
from ggufrope.rope.table import RopeTable

if TYPE_CHECKING:
    from ggufrope.gguf import Edits

__all__ = ["Conversion", "plan", "strip", "strip_in_place", "write", "write_in_place"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A decided conversion; nothing is written yet.

    Attributes:
        source: the file, seen as it was before any conversion.
        model: its facts without the scaling it declares; None where it does not rotate.
        method: the method with its parameters.
        name: its full name, e.g. ``ms-poe+yarn``.
        table: the divisors that the result will apply, relative to ``model``; None where it does not rotate.
        context: the context that the result aims at, in tokens.
        edit: what changes in the original.
        verdict: who will honour the result.
        notes: what a person should know, one sentence each.
    """

    source: Source
    model: ModelRope | None
    method: Method
    name: str
    table: RopeTable | None
    context: int
    edit: Edit
    verdict: Verdict
    notes: tuple[str, ...]

    @property
    def needs_patched(self) -> bool:
        """Whether only the patched runtime gives the result's effect."""
        return self.edit.needs_patched

    @property
    def by_length(self) -> bool:
        """Whether frequencies follow the length."""
        return self.table is not None and self.table.n_rows > 1

    def changes(self) -> list[tuple[str, Any, Any]]:
        """(key, before, after) of every key that changes, upstream's first; None stands for an absent key."""
        edit = self.edit
        touched = sorted({*edit.set, *(k for k in edit.remove if k in self.source)}, key=lambda k: (k in keys.OURS, k))
        return [(k, self.source.get(k), edit.set[k].value if k in edit.set else None) for k in touched]


def plan(
    file: ModelFile,
    name: str,
    params: Mapping[str, Any],
    context: int | None = None,
    require_patched: bool = False,
    from_checkpoint: bool = False,
    reach: int | None = None,
    keep_keys: bool = True,
    in_windows: bool | None = None,
    of_converter: bool = False,
) -> Conversion:
    """Decide what converting ``file`` to method ``name`` changes. Reads only the header.

    Args:
        file: a GGUF; one that ggufrope converted is taken as it was before that.
        name: a name of ``methods.method_names()``.
        params: the method's parameters by field name; None counts as not given.
        context: target context in tokens; gives the factor where none is given.
        require_patched: add a tensor that makes stock llama.cpp refuse the file.
        from_checkpoint: the method was read from the model's Hugging Face directory, not asked for by name; the file
            says so, and ``validate`` goes by the directory.
        reach: the context that the result gets, where the method does not depend on the length.
        keep_keys: see ``encoding.encode``.
        in_windows: see ``fitted.table_of``.
        of_converter: see ``conversion_notes``.

    Raises:
        GgufError: the file cannot be read.
        UsageError, ParameterError: the parameters do not make sense.
        UnsupportedModelError, NotHonouredError: the model or the runtime cannot carry the method.
    """
    source = file.original
    keeps = scaling_method(name).traits.keeps_scaling
    mended = mend(source, replaces_scaling=not keeps, freq_base=params.get("freq_base"))
    require_loadable(mended.source, keys_only=True)
    if mended.source.unrotated:
        return _plan_without_rope(mended, name, params, context, require_patched)
    if keeps:
        require_sense(mended.source)
    fitted = fit(name, params, mended.source.model, mended.source.stock, context, reach, in_windows)
    edit = encode(mended, fitted, require_patched, from_checkpoint=from_checkpoint, keep_keys=keep_keys)
    require_loadable(result := EditedSource(source, edit))
    return Conversion(
        source=source,
        model=fitted.model,
        method=fitted.method,
        name=name,
        table=fitted.table,
        context=fitted.context,
        edit=edit,
        verdict=verdict_of_edit(result),
        notes=(*mended.notes(edit), *conversion_notes(mended.source, fitted, edit, of_converter=of_converter)),
    )


def _plan_without_rope(
    mended: Mended, name: str, params: Mapping[str, Any], context: int | None, require_patched: bool
) -> Conversion:
    """What asks for no scaling can be done to a model that does not rotate: nothing in it changes.

    Raises:
        UnsupportedModelError: a method that would scale.
    """
    if name != PLAIN or any(value is not None for value in (*params.values(), context)):
        _ = mended.source.model  # raises, in its own words
    source, method = mended.source.source, METHODS[PLAIN]()
    edit = encode_unrotated(mended, method, require_patched)
    require_loadable(result := EditedSource(source, edit))
    return Conversion(
        source=source,
        model=None,
        method=method,
        name=name,
        table=None,
        context=train_context(result),
        edit=edit,
        verdict=verdict_of_edit(result),
        notes=(*mended.notes(edit), f"the model does not rotate ({result.unrotated}): there is nothing to scale"),
    )


def write(plan: Conversion, out: Path, progress: Progress | None = None) -> Saved:
    """Write the planned file to ``out``; the source and any old ``out`` stay whole until it is complete.

    Raises:
        OutputError: ``out`` is the source, or cannot be written.
    """
    return save_as(plan.source, out, progress, **_edits(plan))


def write_in_place(plan: Conversion, *, force: bool = False, progress: Progress | None = None) -> Saved:
    """Make the source itself the planned file. Whatever happens meanwhile, it is the one or the other afterwards.

    Raises:
        OutputError: it cannot be written, has several names or is in use (unless ``force``).
    """
    return save_in_place(plan.source, force=force, progress=progress, **_edits(plan))


def strip(file: ModelFile, out: Path, progress: Progress | None = None) -> Saved:
    """Undo a conversion: write to ``out`` what the source of ``file`` was.

    Returns:
        Where it is. ``restored`` says whether the result is the source, byte for byte. It is not when another program
        (llama-quantize, say) rewrote the file after the conversion; then the rope keys alone are restored.

    Raises:
        ParameterError: the file was not converted by ggufrope.
        OutputError: see ``write``.
    """
    source = file.original
    return save_as(source, out, progress, **_undo(source))


def strip_in_place(file: ModelFile, *, force: bool = False, progress: Progress | None = None) -> Saved:
    """Undo a conversion in the file itself; see ``strip`` and ``write_in_place``."""
    source = file.original
    drop_ahead(source.header, force=force, moves=source.data_offset != source.header.data_offset)
    return save_in_place(source, force=force, progress=progress, **_undo(source))


def _edits(plan: Conversion) -> Edits:
    source, edit = plan.source, plan.edit
    restored = {k: v for k, (_, v) in source.before.items() if k not in edit.set and k not in edit.remove}
    return {
        "set": {**restored, **edit.set},
        "remove": (source.added | edit.remove) - set(edit.set) - set(restored),
        "add_tensors": edit.tensors,
        "drop_tensors": source.added_tensors,
    }


def _undo(source: Source) -> Edits:
    if not source.converted:
        raise ParameterError(f"{source.path}: there is nothing to strip, ggufrope did not convert this file")
    return {
        "set": {k: v for k, (_, v) in source.before.items()},
        "insert_at": {k: i for k, (i, _) in source.before.items() if k not in source.header},
        "remove": source.added,
        "drop_tensors": source.added_tensors,
        "restore": source.facts,
    }

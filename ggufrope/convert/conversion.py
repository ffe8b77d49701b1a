"""GGUF to GGUF: decide what changes (a ``Conversion``), then write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggufrope.convert.conversion_notes import conversion_notes
from ggufrope.convert.saving import Progress, Saved, save_as, save_in_place
from ggufrope.errors import NotHonouredError, ParameterError, UnsupportedModelError
from ggufrope.gguf import TypedValue, drop_ahead, keys
from ggufrope.late import np
from ggufrope.methods import Method, resolve, scaling_method
from ggufrope.methods.head_order import STATIC
from ggufrope.modelfile.codec import Edit, encode_heads, encode_identity, encode_scaling, length_edit
from ggufrope.modelfile.edited import EditedSource
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.original import Source
from ggufrope.modelfile.verdict import Verdict, verdict_of_edit
from ggufrope.rope.model import ModelRope
from ggufrope.rope.stock import StockRope
from ggufrope.rope.table import RopeTable

if TYPE_CHECKING:
    from ggufrope.gguf import Edits

__all__ = ["Conversion", "plan", "strip", "strip_in_place", "write", "write_in_place"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A decided conversion; nothing is written yet.

    Attributes:
        source: the file, seen as it was before any conversion.
        model: its facts without the scaling it declares.
        method: the method with its parameters.
        name: its full name, e.g. ``ms-poe+yarn``.
        table: the divisors that the result will apply, relative to ``model``.
        context: the context that the result aims at, in tokens.
        edit: what changes in the original.
        verdict: who will honour the result.
        notes: what a person should know, one sentence each.
    """

    source: Source
    model: ModelRope
    method: Method
    name: str
    table: RopeTable
    context: int
    edit: Edit
    verdict: Verdict
    notes: tuple[str, ...]

    @property
    def needs_patched(self) -> bool:
        """Whether only the patched runtime gives the result's effect."""
        return self.edit.needs_patched

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
) -> Conversion:
    """Decide what converting ``file`` to method ``name`` changes. Reads only the header.

    Args:
        file: a GGUF; one that ggufrope converted is taken as it was before that.
        name: a name of ``methods.method_names()``.
        params: the method's parameters by field name; None counts as not given.
        context: target context in tokens; gives the factor where none is given.
        require_patched: add a tensor that makes stock llama.cpp refuse the file.

    Raises:
        GgufError: the file cannot be read.
        UsageError, ParameterError: the parameters do not make sense.
        UnsupportedModelError, NotHonouredError: the model or the runtime cannot carry the method.
    """
    source = file.original
    declared, current = source.model, source.stock
    base_model = replace(declared, train_ctx=declared.original_ctx)
    scaling = scaling_method(name)
    keeps_scaling = scaling.traits.keeps_scaling
    if keeps_scaling and context not in (None, declared.train_ctx):
        first, *others = scaling.traits.suggested_bases
        raise ParameterError(
            f"--context {context}: {name} alone keeps the model's context ({declared.train_ctx}); "
            f"to extend it use --method {name}+{first} (or +{', +'.join(others)})"
        )
    model = declared if keeps_scaling else base_model
    own = scaling.from_file(declared, current)
    params = {**own, **{k: v for k, v in params.items() if v is not None}}
    method = resolve(name, params, model, None if keeps_scaling else context)
    table = method.table(model)
    target = context or method.context(model)
    edit = Edit()
    if own and table.without_heads().close_to(current.table(model), rtol=1e-5):
        edit = length_edit(table, target, current, model)
    elif not keeps_scaling:
        _require_replaceable(source, model, current)
        edit = encode_scaling(table, method.stock(model), model, target)
        _require_no_product(source, edit, current, require_patched)
    else:
        table = current.table(declared) * table
    if table.n_head_kv:
        edit = edit | encode_heads(table, _order_key(source, method, table))
    if require_patched:
        edit = edit | Edit(tensors={keys.SENTINEL: np.ones(1, dtype=np.float32)})
    edit = _book(source, _counted(source, edit), name, method)
    notes = [*conversion_notes(source, model, method, current, edit, keeps_scaling=keeps_scaling)]
    if target < declared.train_ctx:
        notes.append(f"the context shrinks from {declared.train_ctx} to {target} tokens (--context sets a longer one)")
    verdict = verdict_of_edit(EditedSource(source, edit))
    return Conversion(source, model, method, name, table, target, edit, verdict, tuple(notes))


def _order_key(source: Source, method: Method, table: RopeTable) -> str:
    order = method.runtime_order()
    if order != STATIC and table.n_rows > 1:
        raise NotHonouredError(
            f"{source.path}: this version's runtime does not order heads per prompt where frequencies follow the "
            "length; use a static order or another base"
        )
    return order


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


def _book(source: Source, edit: Edit, name: str, method: Method) -> Edit:
    """``edit`` less what changes nothing, with our bookkeeping keys."""
    put = {k: v for k, v in edit.set.items() if k not in source or not _equal(source.get(k), v.value)}
    gone = frozenset(k for k in edit.remove if k in source)
    changed = gone | {k for k in put if k in source}
    added = {k for k in put if k not in source}
    added |= {keys.VERSION, keys.METHOD, keys.PARAMS, keys.ORIGINAL, keys.PADDING}
    original = source.record(frozenset(changed), frozenset(added), frozenset(edit.tensors))
    return Edit(put, gone, edit.tensors) | encode_identity(name, method.params(), original)


def _equal(a: Any, b: Any) -> bool:
    """Whether two values of a key are the same; either may be an array."""
    left, right = (v.tolist() if hasattr(v, "tolist") else v for v in (a, b))
    return bool(left == right)


def _counted(source: Source, edit: Edit) -> Edit:
    """``edit`` with the number of tensors that llama.cpp expects in all shards together."""
    if not (source.shards and edit.tensors and keys.SPLIT_TENSORS in source):
        return edit
    count = source.header.typed(keys.SPLIT_TENSORS)
    total = int(source.get(keys.SPLIT_TENSORS)) + len(edit.tensors)
    return edit | Edit({keys.SPLIT_TENSORS: TypedValue(count.type, total)})


def _require_replaceable(source: Source, model: ModelRope, current: StockRope) -> None:
    log_mul = keys.stock(keys.YARN_LOG_MUL, model.arch)
    if log_mul in source:
        raise UnsupportedModelError(
            f"{source.path}: {log_mul} ties this model's YaRN to its attention scale, so its scaling cannot be "
            "replaced; ms-poe without a base keeps it"
        )
    if current.long:
        raise UnsupportedModelError(
            f"{source.path}: {keys.ROPE_LONG} holds the model's own LongRoPE factors, which llama.cpp always applies; "
            "ms-poe without a base keeps them, and longrope without lists picks among them by the length in use"
        )


def _require_no_product(source: Source, edit: Edit, current: StockRope, require_patched: bool) -> None:
    scaled = current.kind != "none" or current.attn_factor != 1.0
    left_alone = keys.stock(keys.SCALING_TYPE, source.architecture) in edit.set
    if keys.LENGTH_FACTORS in edit.set and scaled and not left_alone and not require_patched:
        kind = current.kind if current.kind != "none" else "attention"
        raise NotHonouredError(
            f"{source.path}: the file declares {kind} scaling for stock llama.cpp and the new method needs the patched "
            "one, so stock would lose its scaling; add --require-patched to accept that"
        )

"""Which keys change when a file gets a method: scaling, heads, and the record that undoes them."""

from __future__ import annotations

from ggufrope.errors import NotHonouredError, UnsupportedModelError
from ggufrope.gguf import TypedValue, ValueType, keys
from ggufrope.late import np
from ggufrope.methods import Method
from ggufrope.methods.fitted import FittedMethod
from ggufrope.methods.head_order import STATIC
from ggufrope.modelfile.edited import EditedSource
from ggufrope.modelfile.encoded import Edit, encode_heads, encode_identity, encode_rows, encode_table
from ggufrope.modelfile.loading import faults
from ggufrope.modelfile.mended import Mended
from ggufrope.modelfile.original import Source
from ggufrope.rope import architectures
from ggufrope.rope.stock import StockRope

__all__ = ["encode", "encode_unrotated"]


def encode(
    mended: Mended,
    fitted: FittedMethod,
    require_patched: bool = False,
    *,
    from_checkpoint: bool = False,
    keep_keys: bool = True,
) -> Edit:
    """What changes in a file.

    Args:
        mended: the file, seen as it was before any conversion, with its repairs.
        fitted: the method that it gets.
        require_patched: add a tensor that makes stock llama.cpp refuse the file.
        from_checkpoint: the method was read from the model's Hugging Face directory, not asked for by name.
        keep_keys: of such a method: where stock llama.cpp cannot compute it, the converter's scaling keys stay.

    Raises:
        UnsupportedModelError, NotHonouredError: the model or the runtime cannot carry the method.
    """
    source, current = mended.source.source, mended.source.stock
    if fitted.table.n_rows > 1 and source.architecture in architectures.ONE_ROW:
        raise NotHonouredError(
            f"{source.path}: {source.architecture} {architectures.ONE_ROW[source.architecture]}, so its frequencies "
            "cannot follow the length; use a method with one row of factors (linear, ntk, yarn)"
        )
    replaces = not (fitted.keeps_scaling or fitted.keeps_tensors)
    if replaces and from_checkpoint:
        edit = mended.repairs | _completed(mended.source, fitted, keep_keys)
    else:
        if replaces:
            _require_replaceable(source, current)
        edit = mended.repairs | encode_table(fitted, current)
        if replaces:
            _require_no_product(source, current, edit, require_patched)
    if fitted.method.runtime_order() != STATIC and fitted.table.n_rows > 1:
        raise NotHonouredError(
            f"{source.path}: this version's runtime does not order heads per prompt where frequencies follow the "
            "length; use a static order or another base"
        )
    return _recorded(source, edit, fitted.name, fitted.method, require_patched, from_checkpoint)


def encode_unrotated(mended: Mended, method: Method, require_patched: bool = False) -> Edit:
    """What changes in a model that does not rotate and gets plain RoPE: its repairs, and the record."""
    return _recorded(mended.source.source, mended.repairs, method.name, method, require_patched, from_checkpoint=False)


def _recorded(
    source: Source, edit: Edit, name: str, method: Method, require_patched: bool, from_checkpoint: bool
) -> Edit:
    if require_patched:
        edit = edit | Edit(tensors={keys.SENTINEL: np.ones(1, dtype=np.float32)})
    return _book(source, _counted(source, edit), name, method, from_checkpoint)


def _completed(source: EditedSource, fitted: FittedMethod, keep_keys: bool) -> Edit:
    """What makes the converter's file compute the table of a checkpoint: its scaling is not another one, only coarser.

    Where stock llama.cpp has no keys for the table, those that the converter wrote stay, and ours are relative to what
    they compute. So a stock llama.cpp runs what it would have run, and what hangs on those keys (the attention of
    DeepSeek's models) is as upstream has it.
    """
    arch = source.architecture
    tied = (
        source.typed(keys.stock(keys.YARN_LOG_MUL, arch)) is not None or arch in architectures.ATTENTION_FOLLOWS_FACTOR
    )
    if not tied:
        try:
            edit = encode_table(fitted, source.stock)
        except NotHonouredError:
            pass
        else:
            if keys.LENGTH_FACTORS not in edit.set:
                return edit
    table = fitted.table.without_heads()
    if source.stock.long and table.n_rows == 1:  # only several rows replace stock's choice between two lists
        table = table.repeated((source.model.original_ctx, max(fitted.context, source.model.original_ctx + 1)))
    kept = source.stock if keep_keys else StockRope()
    ours = encode_rows(table, kept, fitted.model, fitted.context)
    dropped = frozenset(keys.stock(k, arch) for k in keys.REPLACED if not keep_keys and k != keys.ORIGINAL_CONTEXT)
    heads = (
        encode_heads(fitted.table, fitted.model, fitted.method.runtime_order()) if fitted.table.n_head_kv else Edit()
    )
    raised = fitted.context > source.model.train_ctx and kept.kind != "none" and fitted.table.n_rows == 1
    context = TypedValue(ValueType.UINT32, fitted.context)
    longer = Edit({keys.stock(keys.CONTEXT_LENGTH, arch): context}) if raised else Edit()
    return Edit(remove=dropped) | ours | heads | longer


def _require_replaceable(source: Source, current: StockRope) -> None:
    log_mul = keys.stock(keys.YARN_LOG_MUL, source.architecture)
    if log_mul in source:
        raise UnsupportedModelError(
            f"{source.path}: {log_mul} ties this model's YaRN to its attention scale, so its scaling cannot be "
            "replaced; ms-poe without a base keeps it"
        )
    if current.long and keys.ROPE_LONG not in {fault.name for fault in faults(source)}:
        raise UnsupportedModelError(
            f"{source.path}: {keys.ROPE_LONG} holds the model's own LongRoPE factors, which llama.cpp always applies; "
            "ms-poe without a base keeps them, and longrope without lists picks among them by the length in use"
        )


def _require_no_product(source: Source, current: StockRope, edit: Edit, require_patched: bool) -> None:
    scaled = current.kind != "none" or current.attn_factor != 1.0
    left_alone = keys.stock(keys.SCALING_TYPE, source.architecture) in edit.set
    if keys.LENGTH_FACTORS in edit.set and scaled and not left_alone and not require_patched:
        kind = current.kind if current.kind != "none" else "attention"
        raise NotHonouredError(
            f"{source.path}: the file declares {kind} scaling for stock llama.cpp and the new method needs the patched "
            "one, so stock would lose its scaling; add --require-patched to accept that"
        )


def _book(source: Source, edit: Edit, name: str, method: Method, from_checkpoint: bool) -> Edit:
    """``edit`` less what changes nothing, with our bookkeeping keys."""
    put = {k: v for k, v in edit.set.items() if not _same(source.typed(k), v)}
    gone = frozenset(k for k in edit.remove if k in source)
    changed = gone | {k for k in put if k in source}
    added = {k for k in put if k not in source}
    added |= {keys.VERSION, keys.METHOD, keys.PARAMS, keys.ORIGINAL, keys.PADDING}
    parts = frozenset(changed), frozenset(added), frozenset(edit.tensors)
    original = source.record(*parts, from_checkpoint=from_checkpoint)
    changes = Edit(put, gone, edit.tensors)
    return changes | encode_identity(name, method.params(), original, changes)


def _same(old: TypedValue | None, new: TypedValue) -> bool:
    """Whether a key has this type and value already."""
    if old is None or (old.type, old.item_type) != (new.type, new.item_type):
        return False
    left, right = (v.tolist() if hasattr(v, "tolist") else v for v in (old.value, new.value))
    return bool(left == right)


def _counted(source: Source, edit: Edit) -> Edit:
    """``edit`` with the number of tensors that llama.cpp expects in all shards together."""
    if not (source.shards and edit.tensors and keys.SPLIT_TENSORS in source):
        return edit
    count = source.header.typed(keys.SPLIT_TENSORS)
    total = int(source.get(keys.SPLIT_TENSORS)) + len(edit.tensors)
    return edit | Edit({keys.SPLIT_TENSORS: TypedValue(count.type, total)})

"""Which keys change when a file gets a method: scaling, heads, and the record that undoes them."""

from __future__ import annotations

from typing import Any

from ggufrope.errors import NotHonouredError, UnsupportedModelError
from ggufrope.gguf import TypedValue, ValueType, keys
from ggufrope.late import np
from ggufrope.methods import Method
from ggufrope.methods.fitted import FittedMethod
from ggufrope.methods.head_order import STATIC
from ggufrope.modelfile.encoded import Edit, encode_heads, encode_identity, encode_table, length_edit
from ggufrope.modelfile.original import Source

__all__ = ["encode", "encode_unrotated"]


def encode(
    source: Source, fitted: FittedMethod, require_patched: bool = False, *, from_checkpoint: bool = False
) -> Edit:
    """What changes in ``source``.

    Args:
        source: the file, seen as it was before any conversion.
        fitted: the method that it gets.
        require_patched: add a tensor that makes stock llama.cpp refuse the file.
        from_checkpoint: the method was read from the model's Hugging Face directory, not asked for by name.

    Raises:
        UnsupportedModelError, NotHonouredError: the model or the runtime cannot carry the method.
    """
    replaces = not (fitted.keeps_scaling or fitted.keeps_tensors)
    if replaces and from_checkpoint:
        edit = _completed(source, fitted)
    else:
        if replaces:
            _require_replaceable(source)
        edit = encode_table(fitted, source.stock)
        if replaces:
            _require_no_product(source, edit, require_patched)
    if fitted.method.runtime_order() != STATIC and fitted.table.n_rows > 1:
        raise NotHonouredError(
            f"{source.path}: this version's runtime does not order heads per prompt where frequencies follow the "
            "length; use a static order or another base"
        )
    return _recorded(source, edit, fitted.name, fitted.method, require_patched, from_checkpoint)


def encode_unrotated(source: Source, method: Method, require_patched: bool = False) -> Edit:
    """What changes in a model that does not rotate and gets plain RoPE: the record alone."""
    return _recorded(source, Edit(), method.name, method, require_patched, from_checkpoint=False)


def _recorded(
    source: Source, edit: Edit, name: str, method: Method, require_patched: bool, from_checkpoint: bool
) -> Edit:
    if require_patched:
        edit = edit | Edit(tensors={keys.SENTINEL: np.ones(1, dtype=np.float32)})
    return _book(source, _counted(source, edit), name, method, from_checkpoint)


def _completed(source: Source, fitted: FittedMethod) -> Edit:
    """What makes the converter's file compute the table of a checkpoint: its scaling is not another one, only coarser.

    Where stock llama.cpp has no keys for the table, those that the converter wrote stay, and ours are relative to what
    they compute. So a stock llama.cpp runs what it would have run, and what hangs on those keys (the attention of
    DeepSeek's models) is as upstream has it.
    """
    tied = keys.stock(keys.YARN_LOG_MUL, source.architecture) in source
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
    ours = length_edit(table, fitted.context, source.stock, source.model)
    heads = encode_heads(fitted.table, fitted.method.runtime_order()) if fitted.table.n_head_kv else Edit()
    raised = fitted.context > source.model.train_ctx and source.stock.kind != "none" and fitted.table.n_rows == 1
    context = TypedValue(ValueType.UINT32, fitted.context)
    return ours | heads | (Edit({keys.stock(keys.CONTEXT_LENGTH, source.architecture): context}) if raised else Edit())


def _require_replaceable(source: Source) -> None:
    log_mul = keys.stock(keys.YARN_LOG_MUL, source.architecture)
    if log_mul in source:
        raise UnsupportedModelError(
            f"{source.path}: {log_mul} ties this model's YaRN to its attention scale, so its scaling cannot be "
            "replaced; ms-poe without a base keeps it"
        )
    if source.stock.long:
        raise UnsupportedModelError(
            f"{source.path}: {keys.ROPE_LONG} holds the model's own LongRoPE factors, which llama.cpp always applies; "
            "ms-poe without a base keeps them, and longrope without lists picks among them by the length in use"
        )


def _require_no_product(source: Source, edit: Edit, require_patched: bool) -> None:
    current = source.stock
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
    put = {k: v for k, v in edit.set.items() if k not in source or not _equal(source.get(k), v.value)}
    gone = frozenset(k for k in edit.remove if k in source)
    changed = gone | {k for k in put if k in source}
    added = {k for k in put if k not in source}
    added |= {keys.VERSION, keys.METHOD, keys.PARAMS, keys.ORIGINAL, keys.PADDING}
    parts = frozenset(changed), frozenset(added), frozenset(edit.tensors)
    original = source.record(*parts, from_checkpoint=from_checkpoint)
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

"""What the results say about a GGUF file, and whether two files read text alike."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ggufrope.errors import GgufError, UsageError
from ggufrope.evals.results import FileFacts
from ggufrope.gguf import Header, keys, read_shards
from ggufrope.inspection.summary import Inspection, inspect_file
from ggufrope.modelfile.identity import identify
from ggufrope.validate.tolerances import weight_types

__all__ = ["chooses_by_context", "describe", "require_same_tokenizer"]

#: ``general.file_type``, upstream's ``llama_ftype``.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0", 41: "Q2_0",
}  # fmt: skip


def describe(path: Path) -> FileFacts:
    """Everything that a line of results says about a file.

    Raises:
        GgufError: it cannot be read, or its keys contradict each other.
        UnsupportedModelError: it has no RoPE.
    """
    found: Inspection = inspect_file(path)
    shards = read_shards(path)
    first, decoded = shards[0], found.decoded
    return FileFacts(
        name=path.name,
        size=sum(shard.file_size for shard in shards),
        architecture=decoded.model.arch,
        method=decoded.method,
        params=dict(decoded.params),
        quantization=FILE_TYPES.get(first.get(keys.FILE_TYPE, -1)) or _all_types(shards),
        context=decoded.context,
        trained=found.before.model.original_ctx,
        header=_hash(first, 0, first.data_offset),
        weights=identify(path).weights,
    )


def chooses_by_context(path: Path) -> bool:
    """Whether llama.cpp takes another rotation for a longer *allocated* context (LongRoPE without rows by length).

    Such a file must be given exactly the context that a length calls for: a short text in a long context would be read
    with the long factors.
    """
    return inspect_file(path).row_chosen_by() == "allocated context"


def require_same_tokenizer(first: Path, second: Path) -> None:
    """Refuse two files whose token ids do not mean the same.

    Raises:
        UsageError: they do not; says in what they differ.
        GgufError: one cannot be read.
    """
    mine, theirs = _tokenizer(first), _tokenizer(second)
    for name, value in mine.items():
        if value != theirs[name]:
            raise UsageError(
                f"{first} and {second} have different tokenizers ({_words(name, value, theirs[name])}): "
                "their probabilities cannot be compared token by token; give files made from one model"
            )


def _tokenizer(path: Path) -> dict[str, Any]:
    header = read_shards(path)[0]
    names, embedding = header.field(keys.TOKENS), header.tensor(keys.TOKEN_EMBEDDING)
    rows = embedding.shape[-1] if embedding else None
    told = {
        "tokens": names.count if names else None,
        "rows": rows,
        "model": header.get(keys.TOKENIZER_MODEL),
        "pre": header.get(keys.TOKENIZER_PRE),
    }
    for name, key in (("tokens", keys.TOKENS), ("merges", keys.MERGES)):
        entry = header.field(key)
        told[f"{name} hash"] = _hash(header, entry.payload, entry.end) if entry else None
    told["beginning"] = header.get(keys.BOS_TOKEN)
    return told


def _words(name: str, mine: Any, theirs: Any) -> str:
    if name.endswith(" hash"):
        what = name.removesuffix(" hash")
        return f"their {what} differ" if mine and theirs else f"only one has {what}"
    what = {"tokens": "vocabulary size", "rows": "embeddings", "beginning": "first token"}.get(name, name)
    return f"{what} {mine} and {theirs}"


def _all_types(shards: list[Header] | tuple[Header, ...]) -> str:
    kinds = {kind for shard in shards for kind in weight_types(shard).split("+") if kind}
    return "+".join(sorted(kinds)) or "unknown"


def _hash(header: Header, start: int, end: int) -> str:
    digest, step = hashlib.sha256(), 1 << 20
    try:
        for at in range(start, end, step):
            digest.update(header.read(at, min(end, at + step)))
    except OSError as error:
        raise GgufError(f"{header.path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()

"""What decides which token an id means: two files whose probabilities are compared token by token must agree in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ggufrope.gguf import Header, keys
from ggufrope.modelfile.identity import span_hash

__all__ = ["TokenizerFacts", "read_tokenizer"]

_WORDS = {"tokens": "vocabulary size", "rows": "embeddings", "beginning": "first token"}


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """A file's tokenizer.

    Attributes:
        values: in the order in which differences are looked for: counts and names first, then sha256 of the tokens
            and merges, the token that begins a text last. None stands for what the file does not say.
    """

    values: Mapping[str, Any]

    def difference(self, other: TokenizerFacts) -> str:
        """In what ``other`` differs, in words; empty where ids mean the same."""
        for name, mine in self.values.items():
            theirs = other.values[name]
            if mine != theirs:
                return _difference(name, mine, theirs)
        return ""


def read_tokenizer(header: Header) -> TokenizerFacts:
    """The tokenizer of a file, or of a split model by its first shard.

    Raises:
        GgufError: it cannot be read.
    """
    names, embedding = header.field(keys.TOKENS), header.tensor(keys.TOKEN_EMBEDDING)
    values = {
        "tokens": names.count if names else None,
        "rows": embedding.shape[-1] if embedding else None,
        "model": header.get(keys.TOKENIZER_MODEL),
        "pre": header.get(keys.TOKENIZER_PRE),
    }
    for name, key in (("tokens", keys.TOKENS), ("merges", keys.MERGES)):
        entry = header.field(key)
        values[f"{name} hash"] = span_hash(header, entry.payload, entry.end) if entry else None
    values["beginning"] = header.get(keys.BOS_TOKEN)
    return TokenizerFacts(values)


def _difference(name: str, mine: Any, theirs: Any) -> str:
    if name.endswith(" hash"):
        what = name.removesuffix(" hash")
        return f"their {what} differ" if mine and theirs else f"only one has {what}"
    return f"{_WORDS.get(name, name)} {mine} and {theirs}"

"""Text to tokens and back, as llama.cpp does it."""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Sequence
from typing import Any

__all__ = ["Vocabulary"]


class Vocabulary:
    """The vocabulary of a loaded model.

    Attributes:
        size: how many tokens it has.
        begins_with_bos: whether a text begins with a BOS.
        bos: that token; None if it has none.
    """

    def __init__(self, llama_cpp: Any, model: Any) -> None:
        """Wrap a model.

        Args:
            llama_cpp: the bindings' module.
            model: ``llama_model *``.
        """
        self._api = llama_cpp
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self._pieces: dict[int, bytes] = {}
        self.size = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self.begins_with_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))
        bos = int(llama_cpp.llama_vocab_bos(self._vocab))
        self.bos = bos if bos >= 0 else None

    def tokens(self, text: str, *, whole: bool, special: bool) -> list[int]:
        """Tokens of ``text``.

        Args:
            text: any text.
            whole: whether it begins a sequence: BOS (and EOS) go around it where the model wants them.
            special: whether the names of special tokens in it mean those tokens.
        """
        data = text.encode()
        space = len(data) + 8
        while True:
            ids = (ctypes.c_int32 * space)()
            n = self._api.llama_tokenize(self._vocab, data, len(data), ids, space, whole, special)
            if n >= 0:
                return list(ids[:n])
            space = -n

    def piece(self, token: int) -> bytes:
        """What ``token`` adds to a text; nothing for special tokens."""
        if token not in self._pieces:
            buffer = ctypes.create_string_buffer(64)
            n = self._api.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
            if n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = self._api.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
            self._pieces[token] = buffer.raw[:n]
        return self._pieces[token]

    def text(self, ids: Sequence[int]) -> str:
        """The text of ``ids``: bytes that are no UTF-8 become U+FFFD, a character that lacks its end is left out."""
        return codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(map(self.piece, ids)))

    def ends(self, token: int) -> bool:
        """Whether ``token`` ends a generation."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

"""An engine without a model, and files that only look like models: for what runs around an engine."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import gguf_builder as gb
import numpy as np

from ggufrope.inference.requests import Answer

N_VOCAB = 50


@dataclass
class Settings:
    threads: int = 1
    flash_attn: bool = True


class FakeEngine:
    """Words are tokens. It answers its draft or the reverse, as a hash of the prompt has it.

    ``opened`` lists the engines that were made, ``mood`` may be ``silent``, or a number: after so many answers in all
    engines together it raises KeyboardInterrupt.
    """

    opened: ClassVar[list[FakeEngine]] = []
    mood: str | int | None = None
    words: ClassVar[dict[str, int]] = {f" w{i}": i + 1 for i in range(N_VOCAB - 1)}
    begins_with_bos = True
    n_vocab = N_VOCAB

    def __init__(self, file, *, n_ctx, kv_type="f16", threads=None, **_):
        self.path, self.n_ctx, self.kv_type, self.settings = file.path, n_ctx, kv_type, Settings(threads or 1)
        self.evaluated = self.asked = self.answered = 0
        self.closed = False
        FakeEngine.opened.append(self)

    @classmethod
    def reset(cls, mood=None):
        cls.opened, cls.mood = [], mood

    def close(self):
        self.closed = True

    def tokens(self, text, *, special=False):
        return [self.words.setdefault(w, len(self.words) + 1) for w in re.findall(r"\s*\S+|\s+$", text)]

    def prompt(self, text):
        return [0, *self.tokens(text)]

    def text(self, ids):
        names = {i: w for w, i in self.words.items()}
        return "".join(names[i] for i in ids)

    def greedy(self, requests, progress=None):
        for index, request in reversed(list(enumerate(requests))):  # any order is allowed
            if isinstance(self.mood, int) and sum(e.answered for e in self.opened) >= self.mood:
                raise KeyboardInterrupt
            assert len(request.prompt) + request.max_new <= self.n_ctx
            self.answered += 1
            self.evaluated += 1
            self.asked += len(request.prompt)
            text = self.text(request.draft)
            digest = hashlib.sha256(
                f"{self.path.name} {self.kv_type} {self.text(request.prompt[1:])}".encode()
            ).digest()
            text = text if digest[0] % 3 else text[::-1] + "\u2603 no"
            if self.mood == "silent" or (self.mood == "shy" and digest[1] % 2):
                yield index, Answer("", (), "end")
            else:
                yield index, Answer(text, request.draft, "limit")
            if progress:
                progress(self.answered, len(requests))

    def log_probs(self, ids):
        assert len(ids) <= self.n_ctx
        seed = sum(f"{self.path.name}{self.kv_type}".encode())
        for start in range(0, len(ids), 7):
            self.evaluated += len(ids[start : start + 7])
            rows = [
                np.random.default_rng([seed, start + i, t]).normal(size=N_VOCAB)
                for i, t in enumerate(ids[start : start + 7])
            ]
            yield np.array(rows) - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def model_file(
    path: Path, *, context: int = 512, seed: int = 0, template: str | None = None, tokens=None, extra=()
) -> Path:
    """A file that says everything about a model, and has a few random tensors."""
    entries = [e for e in gb.llama_entries(context_length=context) if tokens is None or b"ggml.tokens" not in e]
    if tokens:
        entries.append(gb.entry("tokenizer.ggml.tokens", gb.ARR, tokens, gb.STR))
    if template:
        entries.append(gb.entry("tokenizer.chat_template", gb.STR, template))
    path.write_bytes(gb.build([*entries, *extra], gb.tiny_tensors(seed)))
    return path

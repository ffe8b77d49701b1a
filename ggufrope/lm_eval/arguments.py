"""What ``--model_args`` may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ggufrope.errors import UsageError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.text import did_you_mean

__all__ = ["Arguments"]

#: What people write out of habit, and lm_eval's other models take.
_MEANT = {
    "pretrained": "path", "model": "path", "model_path": "path", "file": "path", "filename": "path",
    "gguf_file": "path", "max_length": "n_ctx", "max_model_len": "n_ctx", "num_threads": "threads",
    "n_threads": "threads", "cache_type": "kv_type", "batch": "n_batch",
}  # fmt: skip
#: lm_eval itself passes the first three, and RULER's tasks tell people to pass the fourth, for themselves.
_NOT_OURS = ("batch_size", "max_batch_size", "device", "tokenizer")
_KINDS = {"str": "text", "int": "a whole number", "bool": "true or false", "Path": "a file"}


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of the model class; all but ``path`` have a default.

    Attributes:
        path: a GGUF file.
        n_ctx: tokens that a prompt and its answer may have together; default: the context that the file aims at.
        beyond_context: whether ``n_ctx`` may be more than that.
        kv_type: type of cached K and V: f32, f16, q8_0 or q4_0.
        threads: default: as many as there are cores.
        n_batch: tokens of a batch.
        n_parallel: answers that are decoded side by side.
        flash_attn: default: on with a quantized ``kv_type``, off with others.
        share: whether what requests have in common is evaluated once.
        max_gen_toks: tokens of an answer, where a task does not say.
        add_bos_token: whether a prompt begins with a BOS; default: as the file says.
        prefix_token_id: what an empty context is replaced by; default: BOS, or EOS where there is none.
        chat_template: a file with a chat template in place of the model's own.
        enable_thinking: passed on to the chat template.
    """

    path: Path
    n_ctx: int | None = None
    beyond_context: bool = False
    kv_type: str = "f16"
    threads: int | None = None
    n_batch: int = 512
    n_parallel: int = 16
    flash_attn: bool | None = None
    share: bool = True
    max_gen_toks: int = 256
    add_bos_token: bool | None = None
    prefix_token_id: int | None = None
    chat_template: Path | None = None
    enable_thinking: bool | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Arguments:
        """Check names and types.

        Args:
            given: as lm_eval parsed them: numbers and true or false are no text any more.

        Raises:
            UsageError: an unknown name (with the one that may have been meant), a value of another type, no ``path``.
        """
        kinds = {field.name: str(field.type) for field in fields(cls)}
        values = {}
        for name, value in given.items():
            if name in _NOT_OURS:
                continue
            if name not in kinds:
                raise UsageError(f"--model_args: unknown argument '{name}': {_hint(name, list(kinds))}")
            values[name] = _typed(name, value, kinds[name])
        if values.get("path") in (None, Path()):
            raise UsageError("--model_args: no file; path=FILE names a GGUF")
        if values.get("max_gen_toks", 1) < 1:
            raise UsageError(f"--model_args: max_gen_toks={values['max_gen_toks']}: at least 1 token is needed")
        return cls(**values)

    def context(self, file: ModelFile) -> int:
        """``n_ctx``, or the context that ``file``, the one at ``path``, aims at.

        Raises:
            UsageError: it is less than 2, or more than the file's and ``beyond_context`` is not set.
            GgufError: the file cannot be read.
            UnsupportedModelError: it has no RoPE.
        """
        aims_at = file.decoded.context
        n_ctx = aims_at if self.n_ctx is None else self.n_ctx
        if n_ctx < 2:
            raise UsageError(f"--model_args: n_ctx={n_ctx}: at least 2 tokens are needed")
        if n_ctx > aims_at and not self.beyond_context:
            raise UsageError(
                f"--model_args: n_ctx={n_ctx}: {self.path} has a context of {aims_at} tokens; convert it for more "
                "(`ggufrope plan` shows how), or add beyond_context=true to see what it does there"
            )
        return n_ctx


def _hint(name: str, known: list[str]) -> str:
    return did_you_mean(_MEANT.get(name, name), known, f"it is one of {', '.join(known)}")


def _typed(name: str, value: Any, kind: str) -> Any:
    base, _, optional = kind.partition(" | ")
    if value is None and optional:
        return None
    if base == "Path" and isinstance(value, (str, int, Path)) and not isinstance(value, bool):
        return Path(str(value))  # a file may be called 7
    if type(value).__name__ != base:
        raise UsageError(f"--model_args: {name}={value}: {_KINDS[base]} is needed")
    return value

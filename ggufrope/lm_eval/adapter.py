"""The model class of lm-evaluation-harness. The one module that cannot be imported without lm_eval.

Lengths, beginnings and cuts are those of lm_eval's own class for transformers' models (``hf``), so that numbers of a
GGUF can stand beside numbers of the checkpoint that it was made from.
"""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from ggufrope import __version__
from ggufrope.evals.file_facts import describe
from ggufrope.evals.machine import runtime_facts
from ggufrope.inference.engine import Engine
from ggufrope.inference.requests import Request
from ggufrope.lm_eval.arguments import Arguments
from ggufrope.lm_eval.conversation import Template
from ggufrope.lm_eval.generation import Generation
from ggufrope.lm_eval.tokenizer import LmTokens
from ggufrope.lm_eval.truncation import Cuts, fit_pair, fit_prompt
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["GgufropeLM"]

_log = logging.getLogger(__name__)


class GgufropeLM(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """A GGUF file on the patched llama.cpp, for lm_eval's tasks.

    Attributes:
        arguments: as given.
        engine: what is asked.
        cuts: prompts that were cut.

    Example:
        >>> lm_eval.simple_evaluate(model=GgufropeLM(path="model.gguf", n_ctx=4096), tasks=["hellaswag"])
    """

    def __init__(self, path: str | Path = "", **arguments: Any) -> None:
        """Open a file.

        Args:
            path: a GGUF file.
            **arguments: see ``Arguments``; ``batch_size`` and ``device``, which lm_eval passes, change nothing.

        Raises:
            UsageError: an argument that makes no sense.
            GgufError, UnsupportedModelError, RuntimeLibraryError, InputError: see ``Engine``.
        """
        super().__init__()
        self.arguments = args = Arguments.read({"path": path} | arguments)
        self._file = ModelFile.open(args.path)
        n_ctx, header = args.context(self._file), self._file.header
        self.template = Template(header, args.chat_template, args.enable_thinking)
        self.engine = Engine(
            self._file,
            n_ctx=n_ctx,
            kv_type=args.kv_type,
            threads=args.threads,
            n_batch=args.n_batch,
            n_parallel=args.n_parallel,
            flash_attn=args.flash_attn,
            share=args.share,
        )
        weakref.finalize(self, self.engine.close)  # lm_eval closes no model; llama.cpp wants it done before the exit
        self._tokens = LmTokens(self.engine, header, add_bos=args.add_bos_token, prefix=args.prefix_token_id)
        self.cuts = Cuts(n_ctx)
        if self._file.decoded.by_allocated_context:
            _log.warning(
                "%s: llama.cpp chooses its factors by the allocated context, %d tokens here, for short prompts too; "
                "n_ctx=N sets it",
                args.path, n_ctx,
            )  # fmt: skip

    @property
    def max_length(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self.engine.n_ctx

    @property
    def max_gen_toks(self) -> int:
        """Tokens of an answer, where a task does not say."""
        return self.arguments.max_gen_toks

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._tokens.prefix if self._tokens.eos is None else self._tokens.eos

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is replaced by."""
        return self._tokens.prefix

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of ``string``, a BOS first where the file wants one (or as ``add_special_tokens`` says)."""
        return self._tokens.encode(string, add_special_tokens)

    def tok_decode(self, tokens: Iterable[int], **_: Any) -> str:
        """The text of ``tokens``."""
        return self._tokens.decode(list(tokens))

    @property
    def tokenizer_name(self) -> str:
        """Names what wrote the prompts, so that lm_eval's cache has no prompts of another file or template."""
        said = f"{self.template.current()} {self.arguments.enable_thinking}"
        return f"ggufrope-{self.arguments.path.name}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template in jinja2, for lm_eval's records; None where none is wanted."""
        return self.template.source(chat_template) if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the template writes it."""
        return self.template.write(chat_history, add_generation_prompt)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each text, read through windows of ``n_ctx`` that do not overlap."""
        texts = [request.args[0] for request in requests]
        windows = [(place, window) for place, text in enumerate(texts) for window in self._windows(text)]
        likelihoods = self._likelihoods([window for _, window in windows], "loglikelihood_rolling", disable_tqdm)
        totals = [0.0] * len(texts)
        for (place, _), (log_prob, _) in zip(windows, likelihoods, strict=True):
            totals[place] += log_prob
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The greedy answer to each request, up to the first string of its ``until``."""
        wanted = [Generation.read(request.args[1], self.max_gen_toks) for request in requests]
        engine_requests = [self._request(request.args[0], how) for request, how in zip(requests, wanted, strict=True)]
        self.cuts.report("generate_until", len(requests))
        texts = [""] * len(requests)
        with _bar(len(requests), "generate_until", disable_tqdm) as advance:
            for place, answer in self.engine.greedy(engine_requests):
                texts[place] = self._answer(answer.tokens, answer.text, wanted[place])
                self.cache_hook.add_partial("generate_until", requests[place].args, texts[place])
                advance()
        return texts

    def get_model_info(self) -> dict[str, Any]:
        """What lm_eval writes into its results about the model."""
        settings = self.engine.settings
        runtime = runtime_facts(threads=settings.threads, flash_attn=settings.flash_attn)
        facts: dict[str, Any] = {
            "version": __version__,
            "file": asdict(describe(self._file)),
            "runtime": asdict(runtime),
        }
        facts |= {"n_ctx": self.max_length, "kv_type": settings.kv_type, "prompts_cut": dict(self.cuts.total)}
        return {"ggufrope": facts | {"tokens": {"evaluated": self.engine.evaluated, "asked": self.engine.asked}}}

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = [fit_pair(context, continuation, self.cuts) for _, context, continuation in requests]
        self.cuts.report("loglikelihood", len(requests))

        def keep(place: int, result: tuple[float, bool]) -> None:
            self.cache_hook.add_partial("loglikelihood", requests[place][0], result)

        return self._likelihoods(pairs, "loglikelihood", disable_tqdm, keep)

    def _likelihoods(
        self,
        pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        what: str,
        quiet: bool,
        keep: Callable[[int, tuple[float, bool]], None] = lambda _place, _result: None,
    ) -> list[tuple[float, bool]]:
        results = [(0.0, True)] * len(pairs)
        with _bar(len(pairs), what, quiet) as advance:
            for place, likelihood in self.engine.likelihoods(pairs):
                results[place] = (likelihood.log_prob, likelihood.greedy)
                keep(place, results[place])
                advance()
        return results

    def _windows(self, text: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        ids = self.tok_encode(text)
        cut = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
        return [(tuple(context), tuple(continuation)) for context, continuation in map(make_disjoint_window, cut)]

    def _request(self, prompt: str, how: Generation) -> Request:
        ids = self.tok_encode(prompt) or [self.prefix_token_id]

        def settled(text: str) -> bool:
            clean = self._tokens.clean(text)
            return how.cut(clean) != clean

        return Request(fit_prompt(ids, how.max_new, self.cuts), max_new=how.max_new, settled=settled)

    def _answer(self, ids: Sequence[int], text: str, how: Generation) -> str:
        """Special tokens that end an answer leave no trace in its text."""
        ends = {self._tokens.silent(stop) for stop in how.until}
        places = [place for place, token in enumerate(ids) if token in ends]
        return how.cut(self._tokens.decode(ids[: places[0]]) if places else self._tokens.clean(text))


@contextmanager
def _bar(total: int, what: str, quiet: bool) -> Iterator[Callable[[], Any]]:
    """A progress bar as lm_eval's own; gives what moves it on by one."""
    with tqdm(total=total, disable=quiet, desc=f"Running {what} requests") as bar:
        yield bar.update

"""What a task says about its answers (``generation_kwargs``), for a model that always takes the likeliest token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ggufrope.errors import UsageError
from ggufrope.text import did_you_mean

__all__ = ["Generation"]

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # lm_eval's order
#: Without sampling these change nothing.
_OF_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "seed")
#: Values with which an option changes nothing; with any other it would.
_NEUTRAL = {
    "num_beams": 1, "num_return_sequences": 1, "n": 1, "best_of": 1, "repetition_penalty": 1, "no_repeat_ngram_size": 0,
    "frequency_penalty": 0, "presence_penalty": 0, "length_penalty": 1, "early_stopping": False, "use_cache": True,
    "skip_special_tokens": True,
}  # fmt: skip
_MEANT = {"stop": "until", "stop_sequences": "until", "max_length": "max_gen_toks"}


@dataclass(frozen=True, slots=True)
class Generation:
    """How an answer ends.

    Attributes:
        max_new: at most so many tokens.
        until: strings that end an answer and are not part of it.
    """

    max_new: int
    until: tuple[str, ...]

    @classmethod
    def read(cls, given: Mapping[str, Any], default_max: int) -> Generation:
        """Understand a request's options.

        Raises:
            UsageError: they ask for sampling, or for anything else that greedy decoding is not; or make no sense.
        """
        _refuse_sampling(given)
        for name, value in given.items():
            if name in _NEUTRAL:
                if value is not None and value != _NEUTRAL[name]:
                    raise UsageError(f"{name}={value}: decoding is greedy only; {_leave(name)}")
            elif name not in ("do_sample", "until", *_OF_SAMPLING, *_LENGTHS):
                raise UsageError(f"generation option '{name}' is not known: {_hint(name)}")
        length = next((given[name] for name in _LENGTHS if given.get(name) is not None), default_max)
        if isinstance(length, bool) or not isinstance(length, (int, float)) or length != int(length) or length < 1:
            raise UsageError(f"max_gen_toks={length!r}: a whole number from 1 is needed")
        return cls(int(length), _strings(given.get("until")))

    def cut(self, text: str) -> str:
        """``text`` up to the first of ``until``."""
        for stop in self.until:
            text = text.partition(stop)[0]
        return text


def _refuse_sampling(given: Mapping[str, Any]) -> None:
    sample, temperature = given.get("do_sample"), given.get("temperature") or 0
    if sample or (sample is None and temperature):
        sampling = [f"{name}={given[name]}" for name in ("do_sample", "temperature") if given.get(name) is not None]
        raise UsageError(
            f"{', '.join(sampling)}: the task asks for sampled answers, and this model gives the likeliest token only; "
            "--gen_kwargs do_sample=false,temperature=0 takes that instead"
        )


def _strings(until: Any) -> tuple[str, ...]:
    listed = [] if until is None else [until] if isinstance(until, str) else until
    if not isinstance(listed, (list, tuple)) or not all(isinstance(stop, str) for stop in listed):
        raise UsageError(f"until={until!r}: a string or a list of strings is needed")
    return tuple(dict.fromkeys(stop for stop in listed if stop))


def _leave(name: str) -> str:
    return f"omit the option, or set --gen_kwargs {name}={_NEUTRAL[name]}"


def _hint(name: str) -> str:
    known = ["until", "do_sample", *_LENGTHS, *_OF_SAMPLING, *_NEUTRAL]
    return did_you_mean(_MEANT.get(name, name), known, "greedy decoding does not use it; omit it")

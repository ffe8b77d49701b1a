"""What every case came to when ``scripts/checkpoint-matrix`` last ran them all, and what may come of a case at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from matrix_outcome import Outcome

__all__ = ["RECORD", "REFUSALS", "read_record", "write_record"]

RECORD = Path(__file__).resolve().parents[2] / "docs" / "results" / "checkpoints.jsonl"

#: Cases that ``convert`` may refuse though transformers runs them: a pattern of their names, and why.
REFUSALS = {
    r"(gemma2|gpt_oss|granite_swa|cohere2|exaone4-32b|llama4_text|afmoe|exaone_moe): (dynamic|longrope)": (
        "layers with a sliding window would need frequencies by length, and those are for layers without one"
    ),
    r"hunyuan_v1_dense: longrope": "it norms K after turning it, so cached keys cannot follow a text's length",
    r"hunyuan_v1_dense: dynamic": "llama.cpp's converter knows HunYuan's dynamic scaling with one alpha only",
    r"granitemoehybrid: ": "llama.cpp's converter switches the rotation of every Granite hybrid off",
    r"gemma3_text: linear-sliding": "only layers with a sliding window are scaled, and no key scales those alone",
    r"mellum: (as it is|other-bases)": "llama.cpp's Mellum has one base for all layers",
    r"bamba: ": "a part of each head turns, and llama.cpp pairs its dimensions as if all of it did",
    r"solar_open: saved": "llama.cpp's converter takes the rotated part of a head for half where no key says it",
    r"gemma4_text: yarn-full": "llama.cpp's converter knows Gemma 4 with proportional RoPE only",
}


def read_record() -> dict[str, Outcome]:
    """By the name of the case."""
    lines = RECORD.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line, parse_constant=float) for line in lines]
    return {o["case"]: Outcome(**o | {k: tuple(o[k]) for k in ("kl", "stock_kl")}) for o in found}


def write_record(outcomes: Iterable[Outcome]) -> None:
    """One line for each."""
    RECORD.write_text("".join(json.dumps(o.as_json()) + "\n" for o in outcomes), encoding="utf-8")

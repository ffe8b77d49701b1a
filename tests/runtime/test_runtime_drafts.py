"""Speculative decoding under tables: whatever proposes tokens, the answer is what plain greedy decoding gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_runtime_head_factors import RATIOS, with_factors
from test_runtime_length import with_table
from test_runtime_state_server import serving
from tiny_cache import LengthTable, Session
from tiny_transformer import TinyModel

MODEL = TinyModel("llama")
TABLE = LengthTable.growing(MODEL.n_rot, [64, 512])
ONE_ROW = LengthTable([512], np.ones((1, MODEL.n_rot // 2)), np.ones(1))
PROMPT = np.random.default_rng(8).integers(3, 64, 40).tolist()
N_ANSWER, N_DRAFT = 80, 6
#: The end of a text, which the server is told to pass over.
END = 2
#: By what proposes: llama-server's options. The draft model is the same model, plain or with a table of its own.
DRAFT = ["--spec-type", "draft-simple", "--spec-draft-n-max", str(N_DRAFT), "-md"]
LOOKUP = ["--spec-type", "ngram-simple", "--spec-ngram-simple-size-n", "2", "--spec-ngram-simple-size-m", str(N_DRAFT)]
PROPOSERS = {
    "draft model": [*DRAFT, "plain.gguf"],
    "draft model with a table": [*DRAFT, "rows.gguf"],
    "prompt lookup": LOOKUP,
}


def greedy(table: LengthTable, ratios: np.ndarray | None, early: int = 0) -> list[int]:
    """The likeliest token after the prompt and each answer, one at a time, by the float64 reference; the row is that
    of a text that is ``early`` tokens longer."""
    session = Session(MODEL, table, ratios)
    logits, found = session.step(PROMPT)[-1], []
    for i in range(N_ANSWER):
        logits[END] = -np.inf
        found.append(int(np.argmax(logits)))
        logits = session.step(found[-1:], len(PROMPT) + i + 1 + early)[-1]
    return found


@pytest.mark.parametrize("kind", ["ratios", "rows"])
@pytest.mark.parametrize("proposer", PROPOSERS)
def test_the_answer_is_plain_greedy_decoding(runtime_dir: Path, tmp_path: Path, proposer: str, kind: str) -> None:
    """With rows, the answer passes a length point, and a draft may pass it first: so ``patches/README.md`` says."""
    files = {"plain": [], "ratios": with_factors(RATIOS), "rows": with_table(TABLE, RATIOS)}
    for name, extra in files.items():
        (tmp_path / f"{name}.gguf").write_bytes(MODEL.file(extra, words=True))
    options = [str(tmp_path / x) if x.endswith(".gguf") else x for x in PROPOSERS[proposer]]
    with serving(runtime_dir, tmp_path / f"{kind}.gguf", tmp_path / "log", "-np", "1", *options) as ask:
        body = {"prompt": PROMPT, "n_predict": N_ANSWER, "temperature": 0, "return_tokens": True, "ignore_eos": True}
        status, answer = ask("/completion", body)
    assert status == 200
    assert answer["timings"]["draft_n"] > 5
    assert answer["timings"]["draft_n_accepted"] > (10 if "draft" in proposer else -1)
    table, switches = (TABLE, range(N_DRAFT + 1)) if kind == "rows" else (ONE_ROW, range(1))
    assert answer["tokens"] in [greedy(table, RATIOS, early) for early in switches]
    assert answer["tokens"] != greedy(ONE_ROW, None)

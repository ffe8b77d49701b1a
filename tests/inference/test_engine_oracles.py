"""The engine against programs that share no code with it: transformers in float32, and llama.cpp's llama-completion."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
from engine_cases import answers, quiz

from ggufrope.inference.engine import Engine
from ggufrope.inference.requests import Request

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"


@pytest.fixture(scope="module")
def torch_model():
    """The demo model in PyTorch."""
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    import torch
    from transformers import AutoModelForCausalLM

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    torch.set_num_threads(before)


def torch_log_probs(model, ids):
    """Log-probabilities of the next token at each position, ``[n, vocab]``, in float64."""
    import torch

    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([list(ids)])).logits[0].double(), -1).numpy()


def torch_greedy(model, prompt, n):
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(torch_log_probs(model, ids)[-1].argmax()))
    return tuple(ids[len(prompt) :])


def test_greedy_is_that_of_transformers(demo_file, torch_model):
    with Engine(demo_file(outtype="f32"), n_ctx=300, kv_type="f32", threads=2) as engine:
        requests = quiz(engine, 80, seed=1)[:6] + quiz(engine, 200, seed=2)[:3]
        for request, answer in zip(requests, answers(engine, requests), strict=True):
            assert answer.tokens == torch_greedy(torch_model, request.prompt, request.max_new)


def test_likelihoods_are_those_of_transformers(demo_file, torch_model):
    with Engine(demo_file(outtype="f32"), n_ctx=300, kv_type="f32", threads=2) as engine:
        texts = [request.prompt for request in quiz(engine, 120, seed=3)]
        pairs = [(ids[:cut], ids[cut:]) for ids in texts[:5] for cut in (1, 60, len(ids) - 1)]
        pairs += [(texts[0], (token,)) for token in (300, 400, 500)]
        greedy = torch_greedy(torch_model, texts[1], 4)
        pairs += [(texts[1], greedy), (texts[1], (*greedy[:-1], 5)), (texts[1], ())]
        found = dict(engine.likelihoods(pairs))
        assert engine.evaluated < engine.asked
    for index, (context, continuation) in enumerate(pairs):
        rows = torch_log_probs(torch_model, context + continuation)[len(context) - 1 : -1]
        targets = list(continuation)
        assert found[index].log_prob == pytest.approx(rows[np.arange(len(targets)), targets].sum(), abs=1e-3)
        assert found[index].greedy == (rows.argmax(-1).tolist() == targets)
    assert [found[i].greedy for i in (-3 + len(pairs), -2 + len(pairs), -1 + len(pairs))] == [True, False, True]


def test_log_probs_are_those_of_transformers(demo_file, torch_model):
    with Engine(demo_file(outtype="f32"), n_ctx=400, kv_type="f32", threads=2) as engine:
        ids = quiz(engine, 330, seed=4)[0].prompt
        blocks = list(engine.log_probs(ids))
        assert [len(block) for block in blocks] == [256, len(ids) - 256]
        assert blocks[0].dtype == np.float64
        assert np.abs(np.concatenate(blocks) - torch_log_probs(torch_model, ids)).max() < 1e-3
        # the other kind of job afterwards, and back
        assert answers(engine, [Request(ids, max_new=1)])[0].tokens == (int(blocks[1][-1].argmax()),)
        assert np.array_equal(np.concatenate(list(engine.log_probs(ids))), np.concatenate(blocks))


def completion(runtime_dir, file, prompt, n, folder):
    """What llama-completion writes behind ``prompt``."""
    (folder / "prompt.txt").write_text(prompt)
    command = [runtime_dir / "llama-completion", "-m", file, "-f", folder / "prompt.txt", "-n", n, "-c", 560, "-t", 1]
    command += ["--temp", 0, "-no-cnv", "--no-display-prompt", "-fa", "off", "-b", 512]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return run.stdout


@pytest.mark.parametrize(("method", "params"), [(None, {}), ("dynamic-ntk", {"factor": 8.0}), ("ms-poe", {})])
def test_greedy_is_that_of_llama_completion(demo_file, runtime_dir, tmp_path, method, params):
    if not (runtime_dir / "llama-completion").exists():
        pytest.skip("llama-completion is not in this build")
    file = demo_file(method, **params)
    with Engine(file, n_ctx=560, threads=1) as engine:
        words = [60, 200] if method is None else [505]  # 509 to 514 tokens: across dynamic-ntk's first point
        requests = [r for n in words for r in quiz(engine, n, seed=n, max_new=8)[:2]]
        for request, answer in zip(requests, answers(engine, requests), strict=True):
            prompt = engine.text(request.prompt).strip()
            assert engine.prompt(prompt) == list(request.prompt)
            # a few more, as once its last word was not printed
            assert completion(runtime_dir, file, prompt, 12, tmp_path).startswith(answer.text)
            assert len(answer.tokens) == 8


def test_a_tokenizer_whose_tokens_are_parts_of_characters(shared):
    with Engine(shared / "models/stories260K/stories260K-f16.gguf", n_ctx=128, threads=1) as engine:
        text = "Once upon a time, a café — 雪 🐈"
        ids = engine.tokens(text)
        assert engine.text(ids).strip() == text
        assert len(ids) > len(text.split())
        seen = [engine.text(ids[:n]) for n in range(len(ids) + 1)]
        assert all("\ufffd" not in part for part in seen)
        assert all(after.startswith(before) for before, after in itertools.pairwise(seen))
        assert engine.prompt(text) == [1, *ids]


def test_stories_shared_and_alone(shared):
    text = (shared / "data/tinystories-valid-excerpt.txt").read_text(encoding="utf-8")
    found = []
    for share in (True, False):
        with Engine(shared / "models/stories260K/stories260K-f16.gguf", n_ctx=400, threads=2, share=share) as engine:
            ids = engine.prompt(text[:2000])[:300]
            prompts = [(*ids[:250], *ids[at : at + 9]) for at in range(0, 80, 5)]
            found.append(answers(engine, [Request(p, tuple(ids[at : at + 4]), 24) for at, p in enumerate(prompts)]))
    assert found[0] == found[1]

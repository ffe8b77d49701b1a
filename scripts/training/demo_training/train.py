"""Train the demo model: a curriculum of document lengths, Muon on matrices, AdamW on the rest.

Deterministic for one machine type and thread count: each step draws its documents from a generator seeded by the seed
and the step number, so that a resumed run sees the same documents as an uninterrupted one.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from demo_model.text import repeated_list, training_document
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from demo_training.muon import Muon
from demo_training.tokenizer import BOS, EOS, VOCAB_SIZE, save_tokenizer, train_tokenizer, word_ids


@dataclass(frozen=True, slots=True)
class Stage:
    """Documents of one length: tokens with BOS, documents a step, the ranges of facts and questions in each.

    ``lists`` is the share of repeated lists of words in place of such documents.
    """

    length: int
    batch: int
    facts: tuple[int, int]
    questions: tuple[int, int]
    lists: float = 0.0


STAGES = (
    Stage(68, 24, (3, 6), (5, 7), lists=0.25),
    Stage(160, 12, (4, 10), (6, 10)),
    Stage(256, 8, (4, 20), (8, 14)),
    Stage(512, 4, (4, 36), (12, 24)),
)
WINDOW = STAGES[-1].length
MOVE_ON = 0.8  # accuracy (running mean) at which the next stage begins
REPLAY = 0.15  # share of batches from earlier stages
WARM_UP = 100
SLOW_END = 4000  # the step at which the slow decay alone would reach zero
HALVES = 2  # parts of a batch, each computed by one thread
MUON_LR, ADAM_LR = 3e-3, 2e-3


def model_config() -> LlamaConfig:
    """The shape of the model: grouped-query Llama, rows in multiples of 256 so that k-quants apply."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )


@dataclass(slots=True)
class Progress:
    """Where a run stands: all that a checkpoint holds beside the weights and the optimizers."""

    step: int = 0
    stage: int = 0
    accuracy: float = 0.0
    seconds: float = 0.0


def make_batch(stage: Stage, rng: random.Random, ids: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Documents of one stage: token ids [batch, length] and a mask [batch, length] of the answers."""
    tokens = torch.full((stage.batch, stage.length), BOS)
    answers = torch.zeros((stage.batch, stage.length), dtype=torch.bool)
    for row in range(stage.batch):
        n_facts, n_questions = rng.randint(*stage.facts), rng.randint(*stage.questions)
        if rng.random() < stage.lists:
            document = repeated_list(rng, stage.length - 1)
        else:
            document = training_document(rng, stage.length - 1, n_facts, n_questions)
        tokens[row, 1:] = torch.tensor([ids[word] for word in document.words])
        answers[row, [index + 1 for index in document.answers]] = True
    return tokens, answers


def loss_of(model: LlamaForCausalLM, tokens: Tensor, answers: Tensor) -> tuple[Tensor, float, float]:
    """The training loss, and for the log the accuracy on the answers and the mean loss of the rest.

    The loss is the mean over answers plus the mean over the rest: answers are few, and a plain mean would
    drown them.
    """
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16, cache_enabled=False):
        logits = model(tokens, use_cache=False).logits[:, :-1]
    targets, is_answer = tokens[:, 1:], answers[:, 1:]
    losses = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    losses = losses.view(targets.shape)
    of_answers, of_rest = losses[is_answer].mean(), losses[~is_answer].mean()
    right = (logits[is_answer].argmax(-1) == targets[is_answer]).float().mean()
    return of_answers + of_rest, right.item(), of_rest.item()


def _optimizers(model: LlamaForCausalLM, pool: Executor) -> list[torch.optim.Optimizer]:
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, weight in model.named_parameters():
        in_layer = name.startswith("model.layers.") and weight.ndim == 2
        (matrices if in_layer else others).append(weight)
    return [
        Muon(matrices, lr=MUON_LR, pool=pool),
        torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _schedule(step: int, n_steps: int) -> float:
    """The share of the full learning rate: linear warm-up, a slow decay, and in the second half a fast one to zero."""
    slow = (SLOW_END - step) / (SLOW_END - WARM_UP)
    fast = 1.6 * (1 - step / n_steps)
    return min((step + 1) / WARM_UP, slow, fast)


def _gradients(model: LlamaForCausalLM, tokens: Tensor, answers: Tensor, pool: Executor) -> tuple[float, float, float]:
    """Set the gradients from both halves of a batch, and return the means of what :func:`loss_of` returns.

    Each half runs on one thread of its own: threads that share single operations wait for each other hundreds of times
    a step, which on a busy machine costs more than half of the speed. The sum does not depend on who is first.
    """
    # Measured on CPU: below 256 tokens the fused kernel's backward pass takes twice the time of plain attention.
    model.set_attn_implementation("eager" if tokens.shape[1] < 256 else "sdpa")
    weights = list(model.parameters())

    def half(index: int) -> tuple[tuple[Tensor, ...], tuple[float, float, float]]:
        loss, accuracy, rest = loss_of(model, tokens[index::HALVES], answers[index::HALVES])
        return torch.autograd.grad(loss, weights), (loss.item(), accuracy, rest)

    parts = list(pool.map(half, range(HALVES)))
    for weight, *gradients in zip(weights, *(gradients for gradients, _ in parts), strict=True):
        weight.grad = sum(gradients) / HALVES
    loss, accuracy, rest = (sum(values) / HALVES for values in zip(*(values for _, values in parts), strict=True))
    return loss, accuracy, rest


def train(n_steps: int, seed: int, checkpoint: Path, log: Callable[[str], None]) -> tuple[LlamaForCausalLM, Progress]:
    """Train, or go on from ``checkpoint`` if it exists; writes it every 250 steps."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    model = LlamaForCausalLM(model_config()).to(device)
    pool = ThreadPoolExecutor(HALVES, initializer=torch.set_num_threads, initargs=(1,))
    optimizers = _optimizers(model, pool)
    progress = Progress()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        progress = Progress(**state["progress"])
    ids = word_ids(train_tokenizer())
    clock = time.monotonic() - progress.seconds
    while progress.step < n_steps:
        line = _train_step(model, optimizers, progress, n_steps, seed, ids, pool)
        progress.seconds = time.monotonic() - clock
        if progress.step % 50 == 0:
            log(f"{line} seconds {progress.seconds:.0f}")
        if progress.step % 250 == 0 or progress.step == n_steps:
            _save(checkpoint, model, optimizers, progress)
    return model, progress


def _train_step(
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    progress: Progress,
    n_steps: int,
    seed: int,
    ids: dict[str, int],
    pool: Executor,
) -> str:
    rng = random.Random(f"{seed}/{progress.step}")
    replayed = progress.stage > 0 and rng.random() < REPLAY
    stage = STAGES[rng.randrange(progress.stage) if replayed else progress.stage]
    tokens, answers = (part.to(model.device) for part in make_batch(stage, rng, ids))
    loss, accuracy, rest = _gradients(model, tokens, answers, pool)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer, lr in zip(optimizers, (MUON_LR, ADAM_LR), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = lr * _schedule(progress.step, n_steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    if not replayed:
        progress.accuracy += 0.02 * (accuracy - progress.accuracy)
        if progress.accuracy >= MOVE_ON and progress.stage + 1 < len(STAGES):
            progress.stage += 1
            progress.accuracy = 0.0
    length = STAGES[progress.stage].length
    return f"step {progress.step} length {length} loss {loss:.3f} rest {rest:.3f} accuracy {progress.accuracy:.3f}"


def _save(path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], progress: Progress) -> None:
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "progress": asdict(progress),
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)  # an interrupted write leaves the previous checkpoint whole


def save_model(model: LlamaForCausalLM, directory: Path) -> None:
    """Write the model as a Hugging Face directory: float16 safetensors, configuration and tokenizer."""
    model.half().save_pretrained(directory)
    config = json.loads((directory / "config.json").read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]  # where programs older than transformers 5 look
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_tokenizer(train_tokenizer(), directory, WINDOW)

"""The demo model: its text generator, its shape, its tokenizer, and that it can repeat back what it read."""

import json
import random
from pathlib import Path

import pytest
from demo_model.text import (
    FACT_WORDS,
    NAMES,
    QUESTION_WORDS,
    THINGS,
    make_document,
    make_quiz,
    sample_text,
    training_document,
    vocabulary,
)

MODEL = Path(__file__).resolve().parent.parent / "models" / "demo"
MIB = 1 << 20


def config() -> dict:
    return json.loads((MODEL / "config.json").read_text())


def test_generator_is_deterministic():
    assert make_document(random.Random(7), 200, 0.5) == make_document(random.Random(7), 200, 0.5)
    assert training_document(random.Random(7), 200, 8, 8) == training_document(random.Random(7), 200, 8, 8)
    assert make_document(random.Random(7), 200, 0.5) != make_document(random.Random(8), 200, 0.5)


@pytest.mark.parametrize("n_tokens", [120, 256, 777])
@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
def test_answer_is_stated_once_at_the_depth_asked(n_tokens, depth):
    for seed in range(20):
        prompt, answer = make_document(random.Random(seed), n_tokens, depth)
        words = prompt.split()
        assert len(words) == n_tokens - 1  # BOS is the other token
        so, give, key = words[-3:]
        assert (so, give) == ("so", "give")
        stated = [i for i in range(len(words) - 3) if words[i : i + 2] == ["give", key]]
        assert [words[i + 2] for i in stated] == [answer]
        body = len(words) - 3 - FACT_WORDS
        assert abs(stated[0] - depth * body) <= 13  # the longest sentence


def test_calibration_text_is_what_the_generator_makes():
    text = (MODEL / "calibration.txt").read_text(encoding="utf-8")
    assert text == sample_text("calibration", 24, 500)
    assert set(text.split()) <= set(vocabulary())
    assert [len(line.split()) for line in text.splitlines()] == [500] * 24


def test_quiz_asks_for_a_fact_at_each_depth():
    depths = (1.0, 0.0, 0.5)  # in any order
    words, asked = make_quiz(random.Random(3), 300, depths)
    assert len(words) == 300
    places = [next(i for i in range(300) if words[i : i + 3] == ["give", *fact]) for fact in asked]
    assert places[1] == 0
    assert places[0] == 300 - FACT_WORDS
    assert abs(places[2] - 150) <= 13


def test_prompt_too_short_or_depth_outside_is_refused():
    with pytest.raises(ValueError, match="too few"):
        make_document(random.Random(0), 40, 0.5)
    with pytest.raises(ValueError, match="depth"):
        make_document(random.Random(0), 200, 1.5)


def test_training_document_answers_follow_their_facts():
    for seed in range(50):
        document = training_document(random.Random(seed), 255, 10, 12)
        assert len(document.words) == 255
        assert len(document.answers) == 12
        for index in document.answers:
            so, give, key, value = document.words[index - 3 : index + 1]
            assert (so, give) == ("so", "give")
            first = next(i for i in range(index) if document.words[i : i + 2] == ("give", key))
            assert document.words[first + 2] == value
            assert first < index - 2


def test_words_are_distinct_and_known():
    assert len({*NAMES, *THINGS}) == len(NAMES) + len(THINGS)
    known = set(vocabulary())
    for seed in range(50):
        assert known.issuperset(training_document(random.Random(seed), 255, 10, 12).words)
    assert QUESTION_WORDS == FACT_WORDS + 1


def test_shape_suits_k_quants_and_grouped_queries():
    found = config()
    assert found["model_type"] == "llama"
    assert found["hidden_size"] % 256 == 0
    assert found["intermediate_size"] % 256 == 0
    assert found["num_attention_heads"] > found["num_key_value_heads"] > 1
    assert found["head_dim"] >= 32
    assert 256 <= found["max_position_embeddings"] <= 512
    assert (MODEL / "model.safetensors").stat().st_size <= 12 * MIB


def test_every_word_is_one_token_and_other_text_survives():
    tokenizers = pytest.importorskip("tokenizers", reason="needs the [torch] extra")
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    for word in vocabulary():
        assert len(tokenizer.encode(word, add_special_tokens=False).ids) == 1, word
    for text in ("give anna drums . so give anna", "Zoë naïve 日本", " two  spaces ", "line\nand\ttab", ""):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_sentencepiece_and_fast_tokenizer_agree():
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs the [torch] extra")
    tokenizers = pytest.importorskip("tokenizers", reason="needs the [torch] extra")
    slow = sentencepiece.SentencePieceProcessor(model_file=str(MODEL / "tokenizer.model"))
    fast = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    rng = random.Random(0)
    texts = [make_document(rng, 150, rng.random())[0] for _ in range(50)]
    texts += ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz .,ABé\n0", k=30)) for _ in range(100)]
    for text in texts:
        assert fast.encode(text, add_special_tokens=False).ids == slow.encode(text), text


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_model_repeats_back_what_it_read(depth):
    """Its card has the measured figures; this is a light check on 12 prompts."""
    torch = pytest.importorskip("torch", reason="needs the [torch] extra")
    transformers = pytest.importorskip("transformers", reason="needs the [torch] extra")
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    model = transformers.LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    rng = random.Random(99)
    n_tokens = config()["max_position_embeddings"]
    documents = [make_document(rng, n_tokens, depth) for _ in range(12)]
    tokens = torch.tensor(tokenizer([prompt for prompt, _ in documents])["input_ids"])
    assert tokens.shape == (12, n_tokens)
    with torch.no_grad():
        best = model(tokens, logits_to_keep=1).logits[:, -1].argmax(-1)
    found = [tokenizer.decode([token]).strip() for token in best]
    assert sum(word == answer for word, (_, answer) in zip(found, documents, strict=True)) >= 10

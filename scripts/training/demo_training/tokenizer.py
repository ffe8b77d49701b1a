"""The demo model's tokenizer: sentencepiece BPE with byte fallback, every word of the language one token."""

from __future__ import annotations

import io
import json
from pathlib import Path

import sentencepiece
from demo_model.text import vocabulary
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

VOCAB_SIZE = 896  # enough for every word to be one piece; the merges on the way to a word need pieces too
UNK, BOS, EOS = 0, 1, 2


def train_tokenizer() -> bytes:
    """The serialized sentencepiece model, trained on each word of the vocabulary alike."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([word for word in vocabulary() for _ in range(10)]),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        minloglevel=2,
    )
    return model.getvalue()


def word_ids(model: bytes) -> dict[str, int]:
    """The token id of every word.

    Raises:
        ValueError: a word is not one token.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {word: processor.encode(word) for word in vocabulary()}
    split = [word for word, pieces in ids.items() if len(pieces) != 1]
    if split:
        raise ValueError(f"words that are not one token: {', '.join(split)}")
    return {word: pieces[0] for word, pieces in ids.items()}


def fast_tokenizer(model: bytes) -> Tokenizer:
    """The same tokenizer for the ``tokenizers`` library, which transformers loads without sentencepiece.

    transformers' own conversion of tokenizer.model drops one space at the start of a text; this one, like
    sentencepiece and llama.cpp, keeps it.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = {processor.id_to_piece(i): i for i in range(processor.get_piece_size())}
    merges = []
    for piece, rank in pieces.items():
        parts = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        merges += [(rank, pair) for pair in parts if pair[0] in pieces and pair[1] in pieces]
    bpe = models.BPE(
        vocab=pieces,
        merges=[pair for _, pair in sorted(merges)],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


def save_tokenizer(model: bytes, directory: Path, window: int) -> None:
    """Write the tokenizer files of a Hugging Face model directory."""
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        **special,
        "model_max_length": window,
        "clean_up_tokenization_spaces": False,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.model").write_bytes(model)
    fast_tokenizer(model).save(str(directory / "tokenizer.json"))
    (directory / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

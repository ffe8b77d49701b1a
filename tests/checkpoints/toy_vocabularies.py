"""Two made-up vocabularies of 512 tokens, as Hugging Face directories have them: byte-level BPE and sentencepiece."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

__all__ = ["VOCAB_SIZE", "write_vocabulary"]

VOCAB_SIZE = 512
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]  # ids 0 to 3, in both
_CHAT = ["<|endoftext|>", "<|startoftext|>", "[gMASK]", "<|user|>", "<|observation|>"]  # what the converter looks up


def write_vocabulary(kind: str, folder: Path) -> None:
    """Write the files of a tokenizer into ``folder``; ``kind`` is ``bpe``, ``spm`` or ``hf`` (spm's pieces as BPE)."""
    {"bpe": _byte_bpe, "spm": _sentencepiece, "hf": _fallback_bpe}[kind](folder)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    classes = {"bpe": "PreTrainedTokenizerFast", "spm": "LlamaTokenizer", "hf": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": classes[kind], **names}))


def _byte_bpe(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = [*_SPECIAL, *_CHAT]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(itertools.islice(itertools.product(_LETTERS, repeat=2), VOCAB_SIZE - len(alphabet) - len(special)))
    tokens = [*special, *alphabet, *map("".join, merges)]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))


def _fallback_bpe(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models

    pieces = _pieces()
    merges = [tuple(text) for text in pieces if len(text) == 2]
    model = models.BPE(vocab={t: i for i, t in enumerate(pieces)}, merges=merges, byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))


def _pieces() -> list[str]:
    """Special ones, bytes, and letters by one and two."""
    words = itertools.chain("▁", _LETTERS, map("".join, itertools.product(_LETTERS, repeat=2)))
    return list(itertools.islice([*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *words], VOCAB_SIZE))


def _sentencepiece(folder: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2 as model

    proto = model.ModelProto()
    proto.trainer_spec.model_type = model.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    for name, number in (("pad", 0), ("bos", 1), ("eos", 2), ("unk", 3)):
        setattr(proto.trainer_spec, f"{name}_id", number)
    proto.trainer_spec.pad_piece = "<pad>"
    kinds = model.ModelProto.SentencePiece
    for number, text in enumerate(_pieces()):
        special = kinds.UNKNOWN if text == "<unk>" else kinds.CONTROL if text in _SPECIAL else None
        kind = special or (kinds.BYTE if text.startswith("<0x") else kinds.NORMAL)
        proto.pieces.add(piece=text, type=kind, score=float(-number if kind == kinds.NORMAL else 0))
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = True
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())

"""What the results say about a GGUF file, and whether two files read text alike."""

from __future__ import annotations

from ggufrope.errors import UsageError
from ggufrope.evals.results import FileFacts
from ggufrope.modelfile.model_file import ModelFile

__all__ = ["describe", "require_same_tokenizer"]


def describe(file: ModelFile) -> FileFacts:
    """Everything that a line of results says about a file.

    Raises:
        GgufError: it cannot be read, or its keys contradict each other.
        UnsupportedModelError: it has no RoPE.
    """
    decoded, before = file.decoded, file.before
    return FileFacts(
        name=file.path.name,
        size=sum(header.file_size for header in file.headers),
        architecture=decoded.model.arch,
        method=decoded.method,
        params=dict(decoded.params),
        quantization=file.quantization,
        context=decoded.context,
        trained=before.model.original_ctx,
        header=file.header_hash,
        weights=file.identity.weights,
    )


def require_same_tokenizer(first: ModelFile, second: ModelFile) -> None:
    """Refuse two files whose token ids do not mean the same.

    Raises:
        UsageError: they do not; says in what they differ.
        GgufError: one cannot be read.
    """
    if difference := first.tokenizer.difference(second.tokenizer):
        raise UsageError(
            f"{first.path} and {second.path} have different tokenizers ({difference}): "
            "their probabilities cannot be compared token by token; give files made from one model"
        )

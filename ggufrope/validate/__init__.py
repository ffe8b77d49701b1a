"""The file on the patched runtime against a reference, PyTorch or another GGUF, at every position.

===================  ==========================================================================
``claim``            what a file claims to do, and what the reference computes for it, as ``ReferenceSpec``
``frequency_check``  FILE's frequencies, row points and head ratios against others, number by number
``rotation_proof``   which of them are compared, at which lengths, with the loaded reference and the file's parameters
``agreement``        whether two GGUF files are the same model and rotate alike
``sides``            what the file is compared with, and how that is opened
``stored``           PyTorch with a quantized file's own matrices
``kv_cache``         KV cache and attention of the file's side, and whether they fit
``token_ids``        the ids that both sides read
``position_errors``  per-position errors of two streams, and their buckets
``parts``            what makes a run less exact than float32 arithmetic: weights, KV cache, flash attention
``tolerances``       how far apart the two may be, part by part, and how that was measured
``validation``       all of it together: ``validate``
``result``           what came out, as JSON and as a table
===================  ==========================================================================

torch and the runtime are loaded when ``validate`` runs, not before.
"""

from __future__ import annotations

from ggufrope.validate.result import ValidationResult
from ggufrope.validate.validation import require, validate

__all__ = ["ValidationResult", "require", "validate"]

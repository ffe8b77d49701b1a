"""The file on the patched runtime against a reference, PyTorch or another GGUF, at every position.

==============  ==========================================================================
``settings``    what a file claims to do, as a ``ReferenceSpec``
``agreement``   whether two GGUF files are the same model and rotate alike
``sides``       what the file is compared with, and how that is opened
``stored``      PyTorch with a quantized file's own matrices
``cache``       KV cache and attention of the file's side, and whether they fit
``tokens``      the ids that both sides read
``engine``      log-probabilities of the runtime, streamed
``compare``     per-position errors of two streams, and their buckets
``tolerances``  how far apart the two may be, part by part, and how that was measured
``check``       all of it together: ``validate``
``result``      what came out, as JSON and as a table
==============  ==========================================================================

torch and the runtime are loaded when ``validate`` runs, not before.
"""

from __future__ import annotations

from ggufrope.validate.check import require, validate
from ggufrope.validate.result import ValidationResult

__all__ = ["ValidationResult", "require", "validate"]

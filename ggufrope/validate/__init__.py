"""The file on the patched runtime against the PyTorch reference, at every position.

==============  ==========================================================================
``settings``    what a file claims to do, as a ``ReferenceSpec``
``tokens``      the ids that both sides read
``engine``      log-probabilities of the runtime, streamed
``compare``     per-position errors of two streams, and their buckets
``tolerances``  how far apart the two may be, by the file's weights, and how that was measured
``check``       all of it together: ``validate``
``result``      what came out, as JSON and as a table
==============  ==========================================================================

torch and the runtime are loaded when ``validate`` runs, not before.
"""

from __future__ import annotations

from ggufrope.validate.check import require, validate
from ggufrope.validate.result import ValidationResult

__all__ = ["ValidationResult", "require", "validate"]

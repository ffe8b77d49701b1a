"""Ms-PoE's head order, measured on the model itself: prompts are read, heads are scored, ratios follow.

The scores are taken where the runtime computes them (``patches/src/ggufrope-scores.cpp``); what is here cuts prompts
from text, keeps the record and turns scores into ratios.
"""

from __future__ import annotations

from ggufrope.calibrate.measure import CalibrateRequest, calibrate
from ggufrope.calibrate.ordering import Ordering
from ggufrope.calibrate.record import CalibrationRecord, read_record

__all__ = ["CalibrateRequest", "CalibrationRecord", "Ordering", "calibrate", "read_record"]

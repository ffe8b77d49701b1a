"""What a conversion does to the model at hand: prompts from a text, read untouched and converted, compared in pairs.

==================  ===============================================================================
``conversion_check``  which two sides are compared, and what keeps a conversion from being checked
``planted_prompts``   prompts from the text, with phrases to copy in their middle
``time_budget``       how many prompts, how long, fit the time
``paired_reading``    both sides read the prompts
``harm``              the verdict on two rows of numbers. Pure
==================  ===============================================================================
"""

from __future__ import annotations

from ggufrope.check.conversion_check import Checked, NotChecked, check_conversion
from ggufrope.check.harm import Finding, PairedChange

__all__ = ["Checked", "Finding", "NotChecked", "PairedChange", "check_conversion"]

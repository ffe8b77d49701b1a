"""The one table of tasks that are answered. A new task is one file here and one line in ``TASKS``."""

from __future__ import annotations

from ggufrope.evals.base import AnswerTask
from ggufrope.evals.tasks.niah import Niah, NiahMultikey, NiahMultivalue, NiahSingle
from ggufrope.evals.tasks.settings import make, options, record

__all__ = ["TASKS", "make", "options", "record"]

TASKS: dict[str, type[AnswerTask]] = {
    "niah": Niah,
    "niah-single": NiahSingle,
    "niah-multikey": NiahMultikey,
    "niah-multivalue": NiahMultivalue,
}

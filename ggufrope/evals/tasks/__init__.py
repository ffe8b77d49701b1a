"""The one table of tasks, whatever their kind. A new task is one file here and one line in ``TASKS``."""

from __future__ import annotations

from typing import Any

from ggufrope.evals.task_kind import Task, TaskKind
from ggufrope.evals.tasks.babi import BabiWhere, BabiWho
from ggufrope.evals.tasks.kl_divergence import KlDivergence
from ggufrope.evals.tasks.kv_retrieval import KvRetrieval
from ggufrope.evals.tasks.mdqa import Mdqa
from ggufrope.evals.tasks.niah import Niah, NiahMultikey, NiahMultivalue, NiahSingle
from ggufrope.evals.tasks.niah_hop import NiahHop
from ggufrope.evals.tasks.niah_multiquery import NiahMultiquery
from ggufrope.evals.tasks.niah_needles import NiahNeedles
from ggufrope.evals.tasks.passkey import Passkey
from ggufrope.evals.tasks.perplexity import Perplexity
from ggufrope.evals.tasks.ruler_cwe import RulerCwe
from ggufrope.evals.tasks.ruler_fwe import RulerFwe
from ggufrope.evals.tasks.ruler_qa import RulerQa
from ggufrope.evals.tasks.ruler_vt import RulerVt
from ggufrope.evals.tasks.task_options import make, options, record

__all__ = ["TASKS", "kinds", "make", "options", "record"]

TASKS: dict[str, type[Task]] = {
    "passkey": Passkey,
    "niah": Niah,
    "niah-single": NiahSingle,
    "niah-multikey": NiahMultikey,
    "niah-multivalue": NiahMultivalue,
    "niah-multiquery": NiahMultiquery,
    "niah-needles": NiahNeedles,
    "niah-hop": NiahHop,
    "babi-where": BabiWhere,
    "babi-who": BabiWho,
    "kv-retrieval": KvRetrieval,
    "mdqa": Mdqa,
    "ruler-vt": RulerVt,
    "ruler-cwe": RulerCwe,
    "ruler-fwe": RulerFwe,
    "ruler-qa": RulerQa,
    "ppl": Perplexity,
    "kl": KlDivergence,
}


def kinds() -> dict[str, TaskKind[Any]]:
    """The kinds that the tasks are of, by name."""
    return {task.kind.name: task.kind for task in TASKS.values()}

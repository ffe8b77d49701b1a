"""Which methods bring a file to a context of N tokens, at what cost: the facts behind ``ggufrope plan``."""

from __future__ import annotations

from ggufrope.planning.context_plan import ORDER, ContextPlan, Option, Refusal, plan_context

__all__ = ["ORDER", "ContextPlan", "Option", "Refusal", "plan_context"]

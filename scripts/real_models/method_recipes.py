"""The methods that are measured on real models: how a file with each is converted, and how its lines are known."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ggufrope.evals.results import FileFacts
from ggufrope.methods.ms_poe import SLOW

__all__ = ["METHODS", "Recipe", "recipe_of"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method with its parameters.

    Attributes:
        name: part of the name of every file with it.
        label: as the page calls it.
        about: what it does, for people who never heard of it.
        words: options of ``ggufrope convert``; empty: the model as it is.
        order: the head order that is measured first (``ggufrope calibrate``); empty for none.
        method: what a line of results says about such a file.
        params: likewise, as far as they tell it from others.
    """

    name: str
    label: str
    about: str
    words: tuple[str, ...]
    method: str
    params: dict[str, Any] = field(default_factory=dict)
    order: str = ""

    def made(self, file: FileFacts) -> bool:
        """Whether a file was converted like this.

        A file does not say how given ratios were ordered, so those are also known by the file's name.
        """
        facts = {"from_wavelength": 0.0, "head_order": None, **file.params}
        if isinstance(facts.get("head_ratios"), list):  # the ratios themselves
            facts["head_ratios"] = "given"
        same = file.method == self.method and all(facts.get(k) == v for k, v in self.params.items())
        return same and (not self.order or self.name in re.split(r"[./\\]", file.name))


def _ms_poe(name: str, order: str, wavelength: int = 0) -> Recipe:
    label = f"ms-poe {order}" + (f" W={wavelength}" if wavelength else "")
    about = f"ratios 1.2 to 1.8 from the third layer on, heads ordered by {_ORDERS[order]}"
    slow = f", on pairs slower than {wavelength} tokens only{', the default' if wavelength == SLOW else ''}"
    about += slow if wavelength else ", on all pairs, as published"
    words = ("--method", "ms-poe", "--from-wavelength", str(wavelength))
    if order in ("code", "rank"):
        params: dict[str, Any] = {"head_ratios": "given", "from_wavelength": float(wavelength)}
        return Recipe(name, label, about, words, "ms-poe", params, order)
    params = {"head_order": order, "min_ratio": 1.2, "max_ratio": 1.8, "from_wavelength": float(wavelength)}
    return Recipe(name, label, about, (*words, "--head-order", order), "ms-poe", params)


def _uniform(name: str, wavelength: int = 0) -> Recipe:
    label = "uniform 1.5" + (f" W={wavelength}" if wavelength else "")
    about = "positions divided by 1.5 in all heads and layers but those with sliding windows" + (
        f", on pairs slower than {wavelength} tokens only" if wavelength else ", on all pairs"
    )
    words = ("--method", "ms-poe", "--min-ratio", "1.5", "--max-ratio", "1.5", "--first-layer", "0")
    params = {"min_ratio": 1.5, "max_ratio": 1.5, "first_layer": 0, "from_wavelength": float(wavelength)}
    return Recipe(name, label, about, (*words, "--from-wavelength", str(wavelength)), "ms-poe", params)


def _longer(name: str, method: str, about: str) -> Recipe:
    return Recipe(name, f"{method} × 2", about, ("--method", method, "--factor", "2"), method, {"factor": 2.0})


_MEASURED = "measured once, on eight prompts of the text whose loss is measured"  # so that loss is not of unseen text
_ORDERS = {
    "sequential": "their number",
    "code": f"position-awareness as the program does, {_MEASURED}",
    "rank": f"position-awareness as the paper's text says, {_MEASURED}",
    "per-prompt": "position-awareness as the program does, anew for each prompt",
}

#: By name, in the order in which the page shows them. W is --from-wavelength.
METHODS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("none", "none", "the model as it is", (), "none"),
        _ms_poe("seq", "sequential"),
        _ms_poe("code", "code"),
        _ms_poe("rank", "rank"),
        _ms_poe("per-prompt", "per-prompt"),
        *(_ms_poe(f"seq-w{w}", "sequential", w) for w in (64, 256, 512, 1024, 2048, 4096)),
        _ms_poe("code-w64", "code", 64),
        _ms_poe("rank-w64", "rank", 64),
        _uniform("uni15"),
        _uniform("uni15-w64", 64),
        _longer("ntk2", "ntk", "the base raised for twice the context"),
        _longer("yarn2", "yarn", "slow pairs interpolated for twice the context"),
        _longer("dyn2", "dynamic-ntk", "the base raised as far as the length in use needs it"),
    )
}


def recipe_of(file: FileFacts) -> Recipe | None:
    """How a file was converted; None where the grid has no such method."""
    return next((recipe for recipe in METHODS.values() if recipe.made(file)), None)

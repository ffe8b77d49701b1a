"""Where an edit of a model goes: into a new file, or into the model itself; and what that means for split models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ggufrope.gguf import Layout, edit_in_place, output_names, place, plan_rewrite, write_plan
from ggufrope.modelfile.original import Source

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ggufrope.gguf import Edits

__all__ = ["Progress", "Saved", "outputs", "save_as", "save_in_place"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Saved:
    """A finished edit.

    Attributes:
        path: the file, or the first shard.
        in_place: whether it is the file that was edited.
        how: what a person may want to know about the way it was written; may be empty.
        restored: see ``gguf.Plan.restored``.
    """

    path: Path
    in_place: bool
    how: str
    restored: bool


def outputs(source: Source, out: Path) -> tuple[Path, ...]:
    """The files that ``save_as`` writes: one for each shard.

    Raises:
        OutputError: ``out`` is the name of another shard, or of one of another count.
    """
    return output_names(out, 1 + len(source.shards))


def save_as(source: Source, out: Path, progress: Progress | None = None, **edits: Unpack[Edits]) -> Saved:
    """Write an edited copy of ``source`` to ``out``.

    Of a split model only the first shard is written, last; the others get another name where the file system can, and
    are copied elsewhere.

    Raises:
        OutputError: it cannot be written; the source and any old output are untouched.
        GgufError: the source cannot be read, or changed meanwhile.
    """
    first, *rest = outputs(source, out)
    for shard, name in zip(source.shards, rest, strict=True):
        place(shard, name)
    if not edits.get("restore"):
        edits["layout"] = Layout(source.data_offset)
    plan = plan_rewrite(source.header, **edits)
    write_plan(source.header, plan, first, progress=progress)
    how = f"the model has {1 + len(rest)} shards: only the first was changed, the others are the same" if rest else ""
    return Saved(first, False, how, plan.restored)


def save_in_place(
    source: Source, *, force: bool = False, progress: Progress | None = None, **edits: Unpack[Edits]
) -> Saved:
    """Edit ``source`` itself, its first shard if it is split.

    Raises:
        OutputError: it cannot be written, has several names or is in use (unless ``force``); it is as it was.
        GgufError: see ``save_as``.
    """
    edited = edit_in_place(source.header, force=force, progress=progress, **edits)
    return Saved(source.path, True, edited.how, edited.restored)

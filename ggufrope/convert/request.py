"""What ``ggufrope convert`` is asked for, and what of it is refused before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggufrope.errors import InputError, UsageError
from ggufrope.files import check_output
from ggufrope.methods import METHODS, check_name, front_method

__all__ = ["ConvertRequest", "check_request"]


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """What a person asked for; see ``ggufrope convert --help``.

    ``heads`` is the file that ``params["head_ratios"]`` came from, ``table`` that of a table of factors; ``texts`` what
    to calibrate on first; ``no_check`` omits the check of what measured ratios do, which is called after the conversion
    (``ggufrope.check``); ``read_config_as`` one of ``declared_scaling.READERS``; ``converter_options`` go to
    llama.cpp's own converter.
    """

    source: Path
    output: Path | None
    method: str | None
    params: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    outtype: str | None = None
    require_patched: bool = False
    dry_run: bool = False
    overwrite: bool = False
    in_place: bool = False
    force: bool = False
    converter_options: tuple[str, ...] = ()
    read_config_as: str = "transformers"
    heads: Path | None = None
    table: Path | None = None
    texts: tuple[Path, ...] = ()
    no_check: bool = False

    @property
    def from_directory(self) -> bool:
        """Whether the source is a Hugging Face directory; whether it is a good one shows when it is read."""
        return self.source.is_dir()

    @property
    def edits_source(self) -> bool:
        """Whether the source itself is about to change."""
        return self.in_place and not self.dry_run

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The parameters that ``--calibrate`` takes for the method; none where it has nothing to measure."""
        return front_method(self.method).traits.calibrated if self.method else ()


def check_request(request: ConvertRequest) -> None:
    """Refuse what cannot be carried out, before a file is opened or written.

    Raises:
        InputError: there is no such source.
        UsageError, UnknownMethodError: options that make no sense together, or no such method.
        OutputError: an output that would harm a file; see ``files.check_output``.
    """
    try:
        if not request.source.exists():
            raise InputError(
                f"{request.source}: no such file or directory; give the path of a GGUF file or a Hugging Face directory"
            )
    except OSError as error:  # a directory that cannot be searched, a name that is too long
        raise InputError(
            f"{request.source}: cannot be read ({error.strerror}); check its name and permissions"
        ) from None
    if request.method is not None:
        check_name(request.method)
    if request.no_check and not request.calibrated:
        raise UsageError("--no-check omits the check of --calibrate, which no other method has; drop it")
    _check_target(request)
    if not request.from_directory:
        _check_options(request)
    elif request.texts:
        raise UsageError("--calibrate runs a GGUF: convert the directory first, then calibrate the result")
    if request.output is not None and not request.dry_run:
        reads = (request.source, *request.texts, *(path for path in (request.heads, request.table) if path))
        check_output(request.output, reads, overwrite=request.overwrite)


def _check_target(request: ConvertRequest) -> None:
    if request.in_place and (request.output or request.from_directory):
        odd = "no -o" if request.output else "a GGUF, not a directory"
        raise UsageError(f"--in-place edits SRC itself: it takes {odd}")
    if request.force and not request.in_place:
        raise UsageError("--force goes with --in-place; to replace an output give --overwrite")
    if request.output is None and not request.dry_run and not request.in_place:
        raise UsageError("no output given: add -o OUT.gguf, --in-place, or --dry-run to see what would change")


def _check_options(request: ConvertRequest) -> None:
    """Refuse what no GGUF could be converted with."""
    if request.texts and not request.calibrated:
        able = [cls.name for cls in METHODS.values() if cls.traits.calibrated]
        raise UsageError(
            f"--calibrate measures the head order of --method {' or '.join(f'{n} (or {n}+BASE)' for n in able)}; "
            "name that, or drop it"
        )
    if request.texts and request.heads:
        raise UsageError("--calibrate cannot be combined with --head-ratios: both set the ratio of every head")
    if request.method is None:
        raise UsageError("no method given: add --method M (`ggufrope methods` lists them)")
    if request.outtype:
        raise UsageError("--outtype is for Hugging Face directories; `ggufrope quantize` changes a GGUF's type")
    if request.converter_options:
        raise UsageError("--converter-option is for Hugging Face directories: a GGUF needs no converter; drop it")
    if request.read_config_as != "transformers":
        raise UsageError("--read-config-as is for Hugging Face directories: a GGUF has no config.json; drop it")

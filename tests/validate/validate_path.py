"""``validate`` of a file by its path: it is opened for one comparison and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ggufrope import validate as package
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.validate import ValidationResult


def validate(file: Path, reference: Path, **options: Any) -> ValidationResult:
    return package.validate(ModelFile.open(file), reference, **options)

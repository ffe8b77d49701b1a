"""That the kernel tests notice a broken kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutations import MUTATIONS, main
from on_cpu import patched_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patched_tree(tmp_path_factory.mktemp("mutations") / "tree")


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_place_is_there(tree: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    whole = (tree / mutation.path).read_text(encoding="utf-8")
    assert mutation.apply(whole) != whole


@pytest.mark.slow
def test_every_mutation_is_noticed(runtime_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All but Vulkan's, which rebuild their backend: ``python tests/kernels/mutations.py`` tries those too."""
    assert main([name for name, mutation in MUTATIONS.items() if mutation.backend != "vulkan"]) == 0, (
        capsys.readouterr().out
    )

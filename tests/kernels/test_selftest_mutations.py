"""That the self-test of devices notices a broken kernel, and has nothing to say of one that is whole."""

from __future__ import annotations

import shutil

import pytest
from mutations import MUTATIONS
from on_cpu import CannotCompileError
from selftest_mutations import TRIED, BrokenBuild


def test_every_mutation_of_a_backend_that_runs_here_is_tried() -> None:
    assert {MUTATIONS[name].backend for name in TRIED} == {"cpu", "vulkan"}
    assert len(TRIED) == sum(mutation.backend in ("cpu", "vulkan") for mutation in MUTATIONS.values())


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BrokenBuild:
    try:
        return BrokenBuild(tmp_path_factory.mktemp("selftest"), vulkan=shutil.which("glslc") is not None)
    except CannotCompileError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_it_is_noticed(build: BrokenBuild, name: str) -> None:
    verdict = build.verdict(name)
    if verdict.startswith("not tried"):
        pytest.skip(verdict)
    assert verdict.startswith("noticed"), verdict


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "vulkan"])
def test_what_ships_passes(build: BrokenBuild, backend: str) -> None:
    device = build.mend(backend)
    if device is None:
        pytest.skip(f"there is no device of {backend}")
    assert device.good, device.table()

"""The examples in docstrings run, and print what stands below them."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import relatif

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(relatif.__path__, "relatif.")
    if not module.name.endswith("__main__")
)
WITH_EXAMPLES = (
    "relatif.pipeline.console",
    "relatif.pipeline.curvature.gradients",
    "relatif.pipeline.influence.correlation",
    "relatif.pipeline.influence.low_rank",
    "relatif.pipeline.influence.top_k",
    "relatif.pipeline.storage.store",
    "relatif.schemas.digests",
)
"""Modules in which a reader finds examples; there may be more."""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.failed == 0
    if name in WITH_EXAMPLES:
        assert found.attempted > 0


def test_all_modules_are_looked_at() -> None:
    assert set(WITH_EXAMPLES) <= set(MODULES)
    assert {"relatif.jobs.run", "relatif.pipeline.stages.score", "relatif.schemas.config"} <= set(MODULES)


def test_an_example_that_is_wrong_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    module = type(doctest)("wrong", ">>> 1 + 1\n3\n")
    assert doctest.testmod(module).failed == 1
    assert "Expected:" in capsys.readouterr().out

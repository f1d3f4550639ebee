"""A plan that does not fit is refused with the layer or the setting that makes it so; one that fits is told."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from relatif.pipeline.preflight import plan as planning
from relatif.pipeline.preflight.machine import Machine
from relatif.pipeline.preflight.opening import opened
from relatif.pipeline.preflight.plan import Plan, make_plan
from relatif.pipeline.preflight.text import plan_text
from relatif.pipeline.tasks.task import Task
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import ConfigurationError
from tests.support.images import CLASSES, PERCEPTRON, SIDE, perceptron, write_images
from tests.support.runs import config

GIB = 2**30


def wide() -> Task:
    """Return a task with a layer of many inputs."""
    return replace(
        perceptron(),
        build_model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3000), nn.Linear(3000, CLASSES)),
    )


FOUND = {
    "rows": {"train": [0, 4], "test": [2, 5]},
    "largest_difference": {"alone as in a batch": 3e-16, "same twice": 0.0},
}
WIDE = "tests.preflight.test_plan:wide"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=200)


def plan_of(settings: RunConfig, out: Path, **options: Sequence[str]) -> Plan:
    with opened(settings, str(out)) as run:
        return make_plan(run, findings={}, **options)


@pytest.mark.parametrize(
    ("settings", "memory", "told"),
    [
        (
            (f"task={WIDE}",),
            1 * GIB,
            r"'factors' with .*most of it the Kronecker factors of layer '2' .*curvature.exclude",
        ),
        (
            (f"task={WIDE}", "curvature.method=exact", "curvature.layers=['2']"),
            4 * GIB,
            r"'factors' .*dense matrix of 12,004 x 12,004 .*curvature.method",
        ),
        (
            (f"task={WIDE}", "curvature.method=identity", "cluster.workers=1"),
            560 * 2**20,
            "'score' .*shards of 200 rows; lower data.shard_rows",
        ),
        ((f"task={PERCEPTRON}",), 2**20, "'train' .*stored training inputs"),
    ],
)
def test_work_that_is_too_large_is_refused_by_what_makes_it_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], memory: int, told: str
) -> None:
    monkeypatch.setattr(planning, "this_machine", lambda _: Machine(2, 0, memory))
    made = config(data, *settings)
    with pytest.raises(ConfigurationError, match=f"expected work that fits into the .*found stage {told}"):
        plan_of(made, tmp_path / "out")
    if "'factors'" in told:
        assert plan_of(made, tmp_path / "out", here=["train"]), "only stages that are still to be done count"
    assert plan_of(made, tmp_path / "out", here=()).machine.memory == memory, "a cluster may have more"
    monkeypatch.setattr(planning, "this_machine", lambda _: Machine(2, 0, 64 * GIB))
    assert plan_of(made, tmp_path / "out").memory[0].stage == "train"


def test_a_block_of_many_test_inputs_is_refused_by_its_setting(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = write_images(tmp_path / "more", train=50, test=4000)
    monkeypatch.setattr(planning, "this_machine", lambda _: Machine(1, 0, 508 * 2**20))
    settings = (f"task={PERCEPTRON}", "curvature.method=identity", "data.shard_rows=50", "score.top_k=50")
    with pytest.raises(
        ConfigurationError, match=r"most of it the block of 4,000 test inputs; lower score.test_block_rows"
    ):
        plan_of(config(more, *settings), tmp_path / "out")
    assert plan_of(config(more, *settings, "score.test_block_rows=100"), tmp_path / "out").memory


def test_a_full_disk_is_known_before(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "free_bytes", lambda _: 10_000)
    with pytest.raises(ConfigurationError, match=r"expected room for about .*most of it tables, found 9\.8 KiB free"):
        plan_of(config(data, f"task={PERCEPTRON}", "score.write_scores=true"), tmp_path / "out")


def test_the_plan_names_layers_covered_and_not(data: Path, tmp_path: Path) -> None:
    with opened(config(data, f"task={PERCEPTRON}", "curvature.layers=['3']"), str(tmp_path / "out")) as run:
        text = plan_text(make_plan(run, findings={"train": FOUND}, timed=True))
    for line in (
        r"24 of 209 parameters in 1 layer(s)",
        "  3 (Linear): Kronecker factors 4 x 4 and 6 x 6, 608 B",
        "not covered  1.weight: 180 numbers, not among curvature.layers",
        "1.bias: 5 numbers, not among curvature.layers",
        "train: 200 rows in 1 shard(s); first row: 'class ",
        "audit        the untrained model on rows 0 to 3 of train and 2 to 4 of test: no difference above 3.0e-16 in",
        "  alone as in a batch, same twice",
        "4 classes, trained by untrained, seed 0",
        "each pass over the training set that the recipe makes",
    ):
        assert line in text, text
    assert not (tmp_path / "out").exists()

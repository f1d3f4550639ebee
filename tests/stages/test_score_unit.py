"""Units of score work without Ray: what each leaves, and that their order and their cut do not matter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.explainer import load_explainer
from relatif.pipeline.influence.top_k import NO_INDEX, TopK
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.score import plan_score
from relatif.pipeline.stages.score_rows import examples_table, scores_batch, top_k_rows
from relatif.pipeline.stages.score_unit import ScoreUnit
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError, NumericalError
from relatif.schemas.methods import DEFAULT_METHODS
from relatif.schemas.tables import SCORES, TOP_K, TRAIN_EXAMPLES
from tests.support.images import write_images
from tests.support.runs import config, run_named, stage_run

TRAINING, TESTS, K = 200, 40, 5

Load = Callable[[Path], Run]


def test_dense_rows_name_their_place() -> None:
    values = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    batch = scores_batch(values, torch.arange(40, 40 + len(values)), train_start=2000)
    assert batch.schema.equals(SCORES.schema)
    assert batch.to_pylist() == [
        {"test_index": 40, "train_start": 2000, "influence": [0.0, 1.0, 2.0]},
        {"test_index": 41, "train_start": 2000, "influence": [3.0, 4.0, 5.0]},
    ]


def test_of_the_best_only_a_units_own_rows_are_written_and_no_empty_ranks() -> None:
    best = TopK(torch.tensor([[9.0, 8.0, 7.0], [3.0, 2.0, -torch.inf]]), torch.tensor([[12, 3, 10], [9, 11, NO_INDEX]]))
    rows = top_k_rows("influence", best, first_test=100, keep=range(10, 12))
    assert rows.schema.equals(TOP_K.schema)
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("influence", 100, 3, 10, 7.0, None),
        ("influence", 101, 2, 11, 2.0, None),
    ]


def test_whole_numbers_that_a_column_cannot_hold_are_refused_and_real_ones_rounded() -> None:
    labels, losses = torch.tensor([0, 2**31 - 1]), torch.tensor([0.1, 1 / 3], dtype=torch.float64)
    columns = {"index": torch.arange(2), "label": labels, "loss": losses}
    table = examples_table(TRAIN_EXAMPLES, [columns])
    assert table["label"].to_pylist() == [0, 2**31 - 1]
    assert table["loss"].to_pylist() == losses.float().tolist()
    columns["label"] = labels + 1
    with pytest.raises(DataError, match=r"expected values of label that fit int32, found others \(.*2147483648"):
        examples_table(TRAIN_EXAMPLES, [columns])


def test_a_units_name_is_its_place_in_manifests() -> None:
    shards = (Shard("train", 0, 50, 70, ()), Shard("train", 1, 70, 100, ()))
    unit = ScoreUnit(3, 14, shards, "")
    assert unit.name == "unit 00003-00014 (training rows 50 to 99)"
    assert unit.manifest == "work/score/00003-00014.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Run:
    """A run that is ready to be scored."""
    folder = tmp_path_factory.mktemp("unit")
    data = write_images(folder / "data", train=TRAINING, test=TESTS, rows_per_group=10)
    settings = ("data.shard_rows=50", f"score.top_k={K}", "score.unit_rows=50", "score.test_block_rows=20")
    made = config(data, *settings, "train.tolerance=1e-3", "score.write_scores=true")
    return run_named(made, folder / "run", "train", "factors")


def test_a_unit_leaves_its_files(run: Run) -> None:
    plan = plan_score(stage_run(run, "score"))
    scorer = plan.scoring(Worker())
    names = {(unit.block, unit.index): {Path(o.path).name for o in scorer(unit).outputs} for unit in plan.units}
    assert names[0, 0] == {
        "part-00000-00000.parquet",
        "00000-00000.top_k.parquet",
        "00000-00000.train_examples.parquet",
        "00000-00000.test_examples.parquet",
    }
    # Training rows are described with the first block of test inputs, test rows with the first group of shards.
    assert {name.split(".")[1] for name in names[0, 1] if name[4] != "-"} == {"top_k", "train_examples"}
    assert {name.split(".")[1] for name in names[1, 0] if name[4] != "-"} == {"top_k", "test_examples"}
    assert {name.split(".")[1] for name in names[1, 1] if name[4] != "-"} == {"top_k"}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("order", ["forwards", "backwards", "each by an actor of its own"])
def test_the_best_are_among_the_candidates_in_any_order_of_units(run: Run, order: str, threads: int) -> None:
    """Later units start from the thresholds of earlier ones of the same actor, so they leave fewer candidates."""
    plan, worker = plan_score(stage_run(run, "score")), Worker(threads)
    scorer = plan.scoring(worker)
    for unit in plan.units[:: -1 if order == "backwards" else 1]:
        (plan.scoring(worker) if order.startswith("each") else scorer)(unit)
    assert best_of_all_units(run, plan.units) == best_by_dense_matrix(run, plan.units)


def best_of_all_units(run: Run, units: tuple[ScoreUnit, ...]) -> dict[int, list[int]]:
    """The k best by plain influence of the candidates that units left."""
    found: dict[int, list[tuple[float, int]]] = {}
    for unit in units:
        path = Path(run.store.url) / run_directory.unit_file(unit.block, unit.index, TOP_K.name)
        for row in pq.read_table(path).to_pylist():
            assert row["method"] in DEFAULT_METHODS
            assert unit.shards[0].start <= row["train_index"] < unit.shards[-1].stop
            if row["method"] == "influence":
                found.setdefault(row["test_index"], []).append((-row["score"], row["train_index"]))
    return {test: [train for _, train in sorted(pairs)[:K]] for test, pairs in found.items()}


def best_by_dense_matrix(run: Run, units: tuple[ScoreUnit, ...]) -> dict[int, list[int]]:
    matrix = np.full((TESTS, TRAINING), np.nan, np.float32)
    for unit in units:
        path = Path(run.store.url) / run_directory.scores_part(unit.block, unit.index)
        for row in pq.read_table(path).to_pylist():
            start, values = row["train_start"], row["influence"]
            matrix[row["test_index"], start : start + len(values)] = values
    order = np.argsort(-matrix, axis=1, kind="stable")[:, :K]
    return {test: row.tolist() for test, row in enumerate(order)}


def test_a_gradient_that_is_not_finite_is_named_by_split_and_row(run: Run) -> None:
    explainer = load_explainer(run.source, run.config.curvature, Worker())
    examples = run.source.examples(explainer.task, run.train_shards[1])
    examples.inputs[3] = 1e200
    with pytest.raises(NumericalError, match="layer 'linear' at train example 53"):
        explainer.explain(examples, explained="true", split="train")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_scores_and_norms_that_are_not_finite_are_refused(value: float) -> None:
    """1e300 is finite in the arithmetic of float64, and not in its column."""
    columns = {
        name: torch.ones(2, dtype=torch.float64) for name in ("loss", "gradient_norm", "theta_norm", "self_influence")
    }
    columns |= {"index": torch.arange(2), "theta_norm": torch.tensor([1.0, value], dtype=torch.float64)}
    with pytest.raises(NumericalError, match=r"finite values of theta_norm, found .* in place 1 of 2"):
        examples_table(TRAIN_EXAMPLES, [columns])
    best = TopK(torch.tensor([[1.0, value]]), torch.tensor([[3, 4]]))
    with pytest.raises(NumericalError, match="finite values of the scores by influence"):
        top_k_rows("influence", best, 0, keep=range(10))

"""Stage leave_one_out: the best example of each method removed, the model trained again.

It leaves the tables leave_one_out and leave_one_out_predictions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from torch import Tensor, nn

from relatif.pipeline.console import print_plan
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.evaluations.best_pairs import Pair, best_pairs
from relatif.pipeline.evaluations.evaluation import without_recipe, without_training_examples
from relatif.pipeline.evaluations.predictions import (
    asked_curvatures,
    predict,
    predictions_metadata,
    read_predictions,
    rows_of,
)
from relatif.pipeline.explaining.chosen_pairs import explained_rows, sampled_tests
from relatif.pipeline.explaining.measured import measurement_name
from relatif.pipeline.explaining.metadata import metadata_of
from relatif.pipeline.inputs import Inputs, rows
from relatif.pipeline.retraining.removals import PARAMETER_CHANGE, TRAIN_LOSS_CHANGE, RemovalPlan, RemovalUnit
from relatif.pipeline.retraining.retraining import (
    discard_prepared,
    measured_rows,
    model_state,
    read_reference,
    reference,
    retrain,
    retraining_digest,
    retraining_plan,
    retraining_text,
)
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.stages.score import SCORE
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.tensors import read_proven_tensors
from relatif.pipeline.tasks.task import Task, load_model
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig, ScoreConfig
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.methods import explaining
from relatif.schemas.tables import LEAVE_ONE_OUT, LEAVE_ONE_OUT_PREDICTIONS

OBJECTIVE = (
    "the other examples' weights stay 1/n and so does the weight decay (Eq. 5 with epsilon = -1/n); changes are "
    "measured from the same retraining with nothing left out"
)


def leave_one_out(stage: StageRun) -> Made:
    """Retrain without the best example of every method for a sample of test inputs; leave both tables."""
    run = stage.run
    pairs, curvatures = _pairs(stage), asked_curvatures(run)
    print_plan(_plan_rows(run, pairs, curvatures))
    for curvature in curvatures:
        predict(stage, curvature, pairs)
    _remove(stage, pairs)
    own = metadata_of(stage)
    own |= {"leave_one_out": OBJECTIVE, "seed": str(run.config.leave_one_out.seed)}
    metadata = own, own | predictions_metadata(curvatures, run.task.likelihood)
    tables = Tables(run.source, run.test_shards, tuple(pairs), tuple(curvatures), metadata, run.config.score)
    receipts = stage.on_worker(tables.write)
    # Models and changes stay, so that more test inputs need only the retrainings that are new.
    discard_prepared(run)
    return Made(tuple(receipts))


def _pairs(stage: StageRun) -> list[Pair]:
    run, config = stage.run, stage.run.config.leave_one_out
    tests = sampled_tests(run, config.test_count, config.seed, section="leave_one_out")
    if run.train_rows < 2:
        raise ConfigurationError(
            "expected at least 2 training examples to leave one out, found 1; raise data.train_limit"
        )
    return stage.on_worker(partial(best_pairs, run.store.child(run_directory.TABLES), tests, left_out_methods(run)))


def _remove(stage: StageRun, pairs: Sequence[Pair]) -> None:
    """Train without each pair's training example."""
    reference(stage)
    _, trains = rows_of(pairs)
    units = [RemovalUnit(row, retraining_digest(stage, left_out=row)) for row in trains]
    retrain(stage, RemovalPlan(retraining_plan(stage.run)), units, title="leave_one_out")


def _plan_rows(run: Run, pairs: Sequence[Pair], curvatures: Sequence[CurvatureConfig]) -> list[tuple[str, str]]:
    tests, trains = rows_of(pairs)
    return [
        ("task", run.config.task),
        ("test inputs", f"{len(tests):,} of {run.test_rows:,}"),
        ("retrainings", f"{len(trains):,} for {len(pairs):,} pairs, {retraining_text(run.task)}"),
        ("predicted by", ", ".join(curvature.method for curvature in curvatures)),
    ]


@dataclass(frozen=True)
class Tables:
    """What both tables are written from, by a worker; the first curvature is the run's own."""

    source: Source
    test_shards: tuple[Shard, ...]
    pairs: tuple[Pair, ...]
    curvatures: tuple[CurvatureConfig, ...]
    metadata: tuple[dict[str, str], dict[str, str]]
    score: ScoreConfig

    def write(self) -> list[FileReceipt]:
        """Evaluate the chosen test inputs with the models before and after, and write the tables."""
        measured, store = self._changes(), self.source.store
        predicted = {each.method: read_predictions(store, each.method, self.pairs) for each in self.curvatures}
        own = predicted[self.curvatures[0].method]
        rows = [
            {"method": pair.method, "test_index": pair.test_index, "train_index": pair.train_index}
            | own[pair.test_index, pair.train_index]
            | measured[pair]
            for pair in self.pairs
        ]
        actual = {(row["test_index"], row["train_index"]): row["test_loss_change"] for row in rows}
        compared = [
            {"curvature": each.method, "damping": each.effective_damping, "test_index": test, "train_index": train}
            | changes
            | {"test_loss_change": actual[test, train]}
            for each in self.curvatures
            for (test, train), changes in predicted[each.method].items()
        ]
        made = ((LEAVE_ONE_OUT, rows), (LEAVE_ONE_OUT_PREDICTIONS, compared))
        return [
            write_table(
                store, run_directory.table_part(spec.name, 0), pa.Table.from_pylist(some, spec.schema), spec, metadata
            )
            for (spec, some), metadata in zip(made, self.metadata, strict=True)
        ]

    def _changes(self) -> dict[Pair, dict[str, float]]:
        """Return the three measured changes of every pair; one model is loaded at a time."""
        task, store = self.source.load_task(), self.source.store
        tests, trains = rows_of(self.pairs)
        measured = partial(self._measured, task, self._explained(tests))
        model = load_model(task, model_state(read_reference(store)))
        before = {pair: measured(model, pair.test_index) for pair in self.pairs}
        changes = {}
        for row in trains:
            path, proof = run_directory.retraining_file(row), run_directory.retraining_manifest(row)
            tensors = read_proven_tensors(store, path, proof)
            model = load_model(task, model_state(tensors))
            for pair in (pair for pair in self.pairs if pair.train_index == row):
                after = measured(model, pair.test_index)
                changes[pair] = {
                    "test_loss_change": after - before[pair],
                    "parameter_change": float(tensors[PARAMETER_CHANGE]),
                    "train_loss_change": float(tensors[TRAIN_LOSS_CHANGE]),
                }
        return changes

    def _explained(self, tests: Sequence[int]) -> dict[int, tuple[Inputs, Tensor]]:
        """Return each test input with its explained target, as batches of one."""
        inputs, targets = explained_rows(self.source, self.test_shards, tests, self.score.explained_label)
        places = [slice(place, place + 1) for place in range(len(tests))]
        return {test: (rows(inputs, place), targets[place]) for test, place in zip(tests, places, strict=True)}

    def _measured(
        self, task: Task, explained: Mapping[int, tuple[Inputs, Tensor]], model: nn.Module, test: int
    ) -> float:
        return float(measured_rows(task, model, explained[test], measurement_name(self.score, task.likelihood)))


def left_out_methods(run: Run) -> tuple[str, ...]:
    """Return the methods whose best examples are left out: those that are asked for, else all scored ones that help.

    Raises ConfigurationError for one that is not scored.
    """
    scored, asked = run.config.score.methods, run.config.leave_one_out.methods
    if asked is None:
        return explaining(scored)
    missing = [name for name in asked if name not in scored]
    if missing:
        raise ConfigurationError(
            f"expected leave_one_out.methods among score.methods = {', '.join(scored)}, found {', '.join(missing)}; "
            f"add it to score.methods, or leave it out"
        )
    return asked


def check_recipe(run: Run) -> None:
    """Raise ConfigurationError where there is nothing to leave out, or no way to train without it."""
    obstacle = without_training_examples(run) or without_recipe(run)
    if obstacle is not None:
        raise ConfigurationError(obstacle)
    left_out_methods(run)


LEAVE_ONE_OUT_STAGE = Stage(
    "leave_one_out",
    leave_one_out,
    run_directory.stage_manifest("leave_one_out"),
    settings=("leave_one_out.",),
    after=(SCORE,),
    check=check_recipe,
    kept_folders=(run_directory.LEAVE_ONE_OUT_WORK, run_directory.RETRAINING_WORK, run_directory.CURVATURES),
)

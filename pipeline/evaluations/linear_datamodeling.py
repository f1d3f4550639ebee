"""Do summed scores say what a model trained on a part of the training set does? The linear datamodeling score.

Park, Georgiev, Ilyas, Leclerc, Madry (2023), "TRAK", section 2: for random subsets S_j of the training set, the score
of a test input t is Spearman's correlation over j of ``sum_{i in S_j} score(t, i)`` with an output for t of the model
trained on S_j. Here that output is minus the loss of the explained target, because a positive score lowers the loss, or
what ``score.measurement`` names; the mean over test inputs is reported. Nearest neighbours have no scores that could
be added up.

Axes: M chosen test inputs, S subsets, n training examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.console import print_plan
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.evaluations.evaluation import (
    Evaluation,
    evaluation_stage,
    with_chosen_tests,
    without_recipe,
    without_training_examples,
)
from relatif.pipeline.explaining.chosen_pairs import ChosenPairsPlan, explained_rows, sampled_tests
from relatif.pipeline.explaining.measured import measurement_name
from relatif.pipeline.explaining.metadata import metadata_of
from relatif.pipeline.explaining.subset_scores import SubsetScorePlan, SubsetScoreUnit, load_sums, summable
from relatif.pipeline.influence.correlation import Interval, mean_rank_correlation
from relatif.pipeline.retraining.retraining import (
    discard_prepared,
    measured_rows,
    retrain,
    retraining_digest,
    retraining_plan,
    retraining_text,
)
from relatif.pipeline.retraining.subsets import SubsetPlan, Subsets, SubsetUnit
from relatif.pipeline.runs.durable import Made, complete, look_up
from relatif.pipeline.runs.finished_tables import table_methods
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.stage import StageRun
from relatif.pipeline.stages.score import group_shards
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.tensors import read_proven_tensors
from relatif.pipeline.tasks.task import load_model
from relatif.schemas import run_directory
from relatif.schemas.config import LinearDatamodelingConfig, ScoreConfig
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import LINEAR_DATAMODELING, LINEAR_DATAMODELING_SCORE

RESAMPLES = 1000
"""Draws of the bootstrap: the ends of a 95% interval then vary by a few hundredths of its width."""


def _evaluate(stage: StageRun) -> Made:
    """Add up scores, train on subsets, and compare; finished units are not made again."""
    run, config = stage.run, stage.run.config.linear_datamodeling
    tests = tuple(sampled_tests(run, config.test_count, config.seed, section="linear_datamodeling"))
    subsets = Subsets(run.train_rows, config.subset_share, config.seed)
    print_plan(_plan_rows(run, subsets))
    scores = _sum_scores(stage, tests, subsets)
    models = _train(stage, subsets)
    metadata = metadata_of(stage) | {
        "subsets": f"{subsets.size} of {subsets.rows} training examples each, seed {config.seed}",
        "interval": f"95%, percentiles of {RESAMPLES} draws of subsets and test inputs",
        "trainings": str(config.trainings),
        "loss": "of the run's own recipe on the subset: mean over its examples, the same weight decay",
    }
    comparison = Comparison(run.source, run.test_shards, tests, tuple(scores), tuple(models), run.config.score)
    receipts = stage.on_worker(partial(comparison.write, config, metadata))
    # The models stay, so that more test inputs need only scores.
    discard_prepared(run)
    return Made(tuple(receipts))


def _sum_scores(stage: StageRun, tests: tuple[int, ...], subsets: Subsets) -> list[SubsetScoreUnit]:
    run, config = stage.run, stage.run.config
    explained = config.score.explained_label
    measured = measurement_name(config.score, run.task.likelihood)
    pairs = ChosenPairsPlan(run.source, run.train_shards, run.test_shards, explained, config.curvature, measured)
    count = config.linear_datamodeling.subset_count
    methods = summable(table_methods(run.store.child(run_directory.TABLES)))
    chosen = {"tests": tests, "share": subsets.share, "seed": subsets.seed, "count": count, "methods": methods}
    digest = partial(stage.shared_digest, "subset scores", "relatif.pipeline.explaining.subset_scores", **chosen)
    units = [
        SubsetScoreUnit(index, shards, digest(unit=index))
        for index, shards in enumerate(group_shards(run.train_shards, config.score.unit_rows))
    ]
    plan = SubsetScorePlan(pairs, tests, methods, subsets.mask(count))
    # Every actor would solve for all test inputs where numerators are solved for, so one actor does all units.
    most = 1 if config.curvature.is_iterative else None
    complete(look_up(run.store, units), plan, stage.cluster, title="subset scores", most_workers=most)
    return units


def _train(stage: StageRun, subsets: Subsets) -> list[SubsetUnit]:
    config = stage.run.config.linear_datamodeling
    digest = partial(retraining_digest, stage, share=subsets.share, seed=subsets.seed)
    units = [
        SubsetUnit(number, repeat, digest(subset=number, repeat=repeat))
        for number in range(config.subset_count)
        for repeat in range(config.trainings)
    ]
    retrain(stage, SubsetPlan(subsets, retraining_plan(stage.run)), units, title="linear_datamodeling")
    return units


def _plan_rows(run: Run, subsets: Subsets) -> list[tuple[str, str]]:
    config = run.config.linear_datamodeling
    models = config.subset_count * config.trainings
    return [
        ("task", run.config.task),
        ("test inputs", f"{config.test_count:,} of {run.test_rows:,}"),
        ("subsets", f"{config.subset_count:,} of {subsets.size:,} of the {subsets.rows:,} training examples"),
        ("retrainings", f"{models:,}, {retraining_text(run.task)}"),
    ]


@dataclass(frozen=True)
class Comparison:
    """Losses of all models beside the sums of scores, compared by a worker."""

    source: Source
    test_shards: tuple[Shard, ...]
    tests: tuple[int, ...]
    scores: tuple[SubsetScoreUnit, ...]
    models: tuple[SubsetUnit, ...]
    score: ScoreConfig

    def write(self, config: LinearDatamodelingConfig, metadata: Mapping[str, str]) -> list[FileReceipt]:
        """Take the losses of all models, compare them with the sums, and publish both tables."""
        store = self.source.store
        losses, sums = self.losses(config), load_sums(store, self.scores)
        found = {
            method: mean_rank_correlation(values, -losses, resamples=RESAMPLES, seed=config.seed)
            for method, values in sums.items()
        }
        tables = {
            LINEAR_DATAMODELING: pairs_table(self.tests, sums, losses),
            LINEAR_DATAMODELING_SCORE: score_table(found, config.subset_count),
        }
        return [
            write_table(store, run_directory.table_part(spec.name, 0), table, spec, metadata)
            for spec, table in tables.items()
        ]

    def losses(self, config: LinearDatamodelingConfig) -> Tensor:
        """Return what is measured of every chosen test input after training on each subset, [M, S]: mostly a loss."""
        task, store = self.source.load_task(), self.source.store
        stored, targets = explained_rows(self.source, self.test_shards, self.tests, self.score.explained_label)
        measured = measurement_name(self.score, task.likelihood)
        losses = torch.zeros(len(self.tests), config.subset_count, dtype=torch.float64)
        for unit in self.models:
            model = load_model(task, read_proven_tensors(store, unit.file, unit.manifest))
            losses[:, unit.number] += measured_rows(task, model, (stored, targets), measured)
        return losses / config.trainings


def pairs_table(tests: Sequence[int], sums: Mapping[str, Tensor], losses: Tensor) -> pa.Table:
    """Return the table ``linear_datamodeling`` of sums [M, S] by method and losses [M, S]."""
    count, subsets = losses.shape
    columns = {
        "test_index": torch.tensor(tests).repeat_interleave(subsets).numpy(),
        "subset": torch.arange(subsets, dtype=torch.int32).repeat(count).numpy(),
        "loss": losses.flatten().numpy(),
    }
    parts = [
        pa.table(
            {"method": pa.repeat(pa.scalar(method), losses.numel()), **columns, "score_sum": values.flatten().numpy()}
        )
        for method, values in sums.items()
    ]
    return pa.concat_tables(parts).select(LINEAR_DATAMODELING.schema.names).cast(LINEAR_DATAMODELING.schema)


def score_table(found: Mapping[str, Interval], subset_count: int) -> pa.Table:
    """Return the table ``linear_datamodeling_score``: a row for each method's interval."""
    rows = [
        {
            "method": method,
            "test_count": each.count,
            "subset_count": subset_count,
            "score": each.mean,
            "low": each.low,
            "high": each.high,
        }
        for method, each in found.items()
    ]
    return pa.Table.from_pylist(rows, schema=LINEAR_DATAMODELING_SCORE.schema)


def _obstacle(run: Run) -> str | None:
    other = without_training_examples(run) or without_recipe(run) or with_chosen_tests(run)
    if other is not None:
        return other
    if summable(run.config.score.methods):
        return None
    return (
        f"expected a method whose scores add up ({', '.join(summable(tuple(METHODS)))}), found score.methods = "
        f"{', '.join(run.config.score.methods)}; run all stages with one of them into another --out"
    )


LINEAR_DATAMODELING_SCORES = Evaluation(
    evaluation_stage(
        "linear_datamodeling",
        _evaluate,
        settings=("linear_datamodeling.",),
        kept_folders=(run_directory.LINEAR_DATAMODELING_WORK, run_directory.RETRAINING_WORK),
    ),
    _obstacle,
    trains=True,
)

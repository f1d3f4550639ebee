"""Do summed scores say what a model trained on a part of the training set does? The linear datamodeling score.

Park, Georgiev, Ilyas, Leclerc, Madry (2023), "TRAK", section 2: for random subsets S_j of the training set, the score
of a test input t is Spearman's correlation over j of ``sum_{i in S_j} score(t, i)`` with what the model trained on S_j
makes of t. Here that is minus the loss of the label that is explained, as a positive score lowers the loss; the mean
over test inputs is reported. Nearest neighbours have no scores that could be added up.

Axes: M chosen test inputs, S subsets, n training examples.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.cluster.pool import run_units
from relatif.pipeline.cluster.session import Resources, worker_shape
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import print_plan, progress
from relatif.pipeline.evaluations.class_agreement import column_by_row
from relatif.pipeline.evaluations.evaluation import Evaluation
from relatif.pipeline.explaining.chosen_pairs import PairwisePlan, read_rows, sampled_tests
from relatif.pipeline.explaining.subset_scores import ADDITIVE_METHODS, SubsetScorePlan, SubsetScoreUnit, load_sums
from relatif.pipeline.influence.correlation import Interval, mean_rank_correlation
from relatif.pipeline.report.linear_datamodeling import draw_correlations, linear_datamodeling_text
from relatif.pipeline.retraining.retraining import (
    discard_prepared,
    losses_of_rows,
    retrain,
    retraining_digest,
    retraining_plan,
    retraining_text,
)
from relatif.pipeline.retraining.subsets import SubsetPlan, Subsets, SubsetUnit
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import source_of
from relatif.pipeline.stages.score import group_shards
from relatif.pipeline.storage.manifests import finished
from relatif.pipeline.storage.parquet import read_table, table_metadata, write_table
from relatif.pipeline.storage.tensors import read_tensors
from relatif.pipeline.tasks.task import load_model, load_task
from relatif.schemas import run_directory
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import LINEAR_DATAMODELING, LINEAR_DATAMODELING_SCORE, TEST_EXAMPLES

RESAMPLES = 1000
"""Draws of the bootstrap: the ends of a 95% interval then vary by a few hundredths of its width."""


def _evaluate(run: Run, resources: Resources, metadata: Mapping[str, str]) -> list[FileReceipt]:
    """Add up scores, train on subsets, and compare; what is finished of that is not made again."""
    config = run.config.linear_datamodeling
    tests = tuple(sampled_tests(run, config.test_count, config.seed, section="linear_datamodeling"))
    subsets = Subsets(run.train_rows, config.subset_share, config.seed)
    print_plan(_plan_rows(run, subsets))
    scores = _sum_scores(run, resources, tests, subsets)
    models = _train(run, resources, subsets)
    said = dict(metadata) | {
        "subsets": f"{subsets.size} of {subsets.rows} training examples each, seed {config.seed}",
        "interval": f"95%, percentiles of {RESAMPLES} draws of subsets and test inputs",
        "trainings": str(config.trainings),
        "loss": "of the run's own recipe on the subset: mean over its examples, the same weight decay",
    }
    (receipts,) = gather([submit(_write, run, tests, scores, models, said)])
    # The models stay, so that more test inputs need only scores.
    discard_prepared(run)
    return list(receipts)


def _sum_scores(run: Run, resources: Resources, tests: tuple[int, ...], subsets: Subsets) -> list[SubsetScoreUnit]:
    config, score = run.config, run.config.score
    pairwise = PairwisePlan(source_of(run), run.train_shards, run.test_shards, score.explained_label, config.curvature)
    count = config.linear_datamodeling.subset_count
    chosen = {"tests": tests, "share": subsets.share, "seed": subsets.seed, "count": count}
    depends = run.score_digest()
    units = [
        SubsetScoreUnit(index, shards, run.digest("score", sums=depends, unit=index, **chosen))
        for index, shards in enumerate(group_shards(run.train_shards, score.unit_rows))
    ]
    pending = [unit for unit in units if finished(run.store, unit.manifest, unit.digest) is None]
    with progress("subset scores", len(units), unit="units", done=len(units) - len(pending)) as shown:
        run_units(
            SubsetScorePlan(pairwise, tests, subsets, count),
            pending,
            # Every actor solves for the test inputs, where that is needed: one of them does it once.
            worker_shape(config.cluster, resources, 1 if config.curvature.is_iterative else len(pending)),
            retries=config.cluster.max_retries,
            done=lambda proof: shown.advance(note=f"{proof.work} in {proof.seconds:.1f} s"),
            tick=shown.tick,
        )
    return units


def _train(run: Run, resources: Resources, subsets: Subsets) -> list[SubsetUnit]:
    config = run.config.linear_datamodeling
    digest = partial(retraining_digest(run), share=subsets.share, seed=subsets.seed)
    units = [
        SubsetUnit(number, repeat, digest(subset=number, repeat=repeat))
        for number in range(config.subset_count)
        for repeat in range(config.trainings)
    ]
    retrain(run, resources, SubsetPlan(subsets, retraining_plan(run)), units, stage="linear_datamodeling")
    return units


def _plan_rows(run: Run, subsets: Subsets) -> list[tuple[str, str]]:
    config = run.config.linear_datamodeling
    models = config.subset_count * config.trainings
    return [
        ("task", run.config.task),
        ("test inputs", f"{config.test_count:,} of {run.test_rows:,}"),
        ("subsets", f"{config.subset_count:,} of {subsets.size:,} of the {subsets.rows:,} training examples"),
        ("retrainings", f"{models:,}, {retraining_text(load_task(run.config.task))}"),
    ]


def _write(
    run: Run,
    tests: tuple[int, ...],
    scores: Sequence[SubsetScoreUnit],
    models: Sequence[SubsetUnit],
    metadata: Mapping[str, str],
) -> list[FileReceipt]:
    """Take the losses of all models, compare them with the sums, and publish tables and figure, on a worker."""
    config = run.config.linear_datamodeling
    losses, sums = _losses(run, tests, models), load_sums(run.store, scores)
    found = {
        method: mean_rank_correlation(sums[method], -losses, resamples=RESAMPLES, seed=config.seed)
        for method in ADDITIVE_METHODS
    }
    tables = {
        LINEAR_DATAMODELING: pairs_table(tests, sums, losses),
        LINEAR_DATAMODELING_SCORE: score_table(found, config.subset_count),
    }
    written = [
        write_table(run.store, run_directory.table_part(spec.name, 0), table, spec, metadata)
        for spec, table in tables.items()
    ]
    picture = draw_correlations(sums, losses)
    return [*written, run.store.publish_bytes(run_directory.LINEAR_DATAMODELING, picture)]


def _losses(run: Run, tests: tuple[int, ...], models: Sequence[SubsetUnit]) -> Tensor:
    """Return the loss of the explained label of every chosen test input after training on each subset, [M, S]."""
    source, config = source_of(run), run.config.linear_datamodeling
    task = source.load_task()
    stored, _ = read_rows(source, run.test_shards, tests)
    tables = run.store.child(run_directory.TABLES)
    (explained,) = column_by_row(tables, TEST_EXAMPLES.name, "test_index", ["explained_label"])
    labels = explained[list(tests)].long()
    losses = torch.zeros(len(tests), config.subset_count, dtype=torch.float64)
    for unit in models:
        model = load_model(task, read_tensors(run.store, unit.file))
        losses[:, unit.number] += losses_of_rows(task, model, stored, labels)
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
    """Return the table ``linear_datamodeling_score`` of a method's interval each."""
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


LINEAR_DATAMODELING_SCORES = Evaluation(
    "linear_datamodeling",
    obstacle=lambda _: None,
    evaluate=_evaluate,
    text=lambda tables: linear_datamodeling_text(
        read_table(tables, LINEAR_DATAMODELING_SCORE.name), table_metadata(tables, LINEAR_DATAMODELING_SCORE.name)
    ),
    figure=run_directory.LINEAR_DATAMODELING,
    trains=True,
)

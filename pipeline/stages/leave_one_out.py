"""Stage leave_one_out: the best example of each method removed, the model trained again -> table leave_one_out."""

import time
from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipeline.cluster.pool import run_units
from pipeline.cluster.session import Resources, worker_shape
from pipeline.cluster.tasks import gather, submit
from pipeline.datasets.shards import Shard
from pipeline.report.console import print_plan, progress
from pipeline.stages.leave_one_out_pairs import (
    PREDICTED,
    Pair,
    PredictionPlan,
    PredictionUnit,
    best_pairs,
)
from pipeline.stages.leave_one_out_unit import PARAMETER_CHANGE, TRAIN_LOSS_CHANGE, RemovalPlan, RemovalUnit
from pipeline.stages.model import Source
from pipeline.stages.pairwise import PairwisePlan, read_rows, sampled_rows
from pipeline.stages.retraining import (
    loss_of_one,
    model_state,
    reference,
    retrain,
    retraining_plan,
    retraining_text,
)
from pipeline.stages.run import Run
from pipeline.stages.score import table_metadata
from pipeline.storage.manifests import finished, publish_manifest
from pipeline.storage.parquet import write_table
from pipeline.storage.tensors import read_tensors
from pipeline.tasks.task import load_model, load_task
from schemas import run_directory
from schemas.errors import ConfigurationError
from schemas.manifest import FileReceipt, Manifest
from schemas.tables import LEAVE_ONE_OUT

OBJECTIVE = (
    "the other examples' weights stay 1/n and so does the weight decay (Eq. 5 with epsilon = -1/n); changes are "
    "measured from the same retraining with nothing left out"
)


def leave_one_out(run: Run, resources: Resources) -> None:
    """Retrain without the best example of every method for a sample of test inputs; leave the table with proof."""
    started = time.monotonic()
    run.scores()
    pairs = _pairs(run)
    plan = retraining_plan(run)
    source = plan.source
    predictions = _prediction_unit(run, pairs)
    print_plan(_plan_rows(run, pairs, predictions))
    _predict(run, resources, source, predictions)
    depends = [output.sha256 for output in reference(run, resources, plan).outputs]
    units = [RemovalUnit(row, run.digest("train", reference=depends, left_out=row)) for row in predictions.trains]
    retrain(run, resources, RemovalPlan(plan), units, stage="leave_one_out")
    metadata = table_metadata(run) | {"leave_one_out": OBJECTIVE, "seed": str(run.config.leave_one_out.seed)}
    (receipt,) = gather([submit(_write_table, source, _test_shards(run), pairs, predictions, metadata)])
    proof = Manifest(
        work="leave_one_out",
        digest=leave_one_out_digest(run),
        outputs=(receipt,),
        seconds=round(time.monotonic() - started, 3),
    )
    publish_manifest(run.store, run_directory.stage_manifest("leave_one_out"), proof)
    # Models and changes stay, so that more test inputs need only the retrainings that are new.
    run.store.delete(run_directory.PREPARED)


def leave_one_out_digest(run: Run) -> str:
    """Return what the table depends on."""
    return run.digest("leave_one_out", score=run.score_digest())


def leave_one_out_proof(run: Run) -> Manifest:
    """Return the proof of the table; MissingStageError where it, or the score stage, is not finished."""
    run.scores()
    path = run_directory.stage_manifest("leave_one_out")
    return run.proof(path, leave_one_out_digest(run), stage="leave_one_out")


def _pairs(run: Run) -> list[Pair]:
    config = run.config.leave_one_out
    if config.test_count > run.test_rows:
        raise ConfigurationError(
            f"expected leave_one_out.test_count of at most the {run.test_rows} test inputs that were scored, found "
            f"{config.test_count}; lower it"
        )
    if run.train_rows < 2:
        raise ConfigurationError(
            "expected at least 2 training examples to leave one out, found 1; raise data.train_limit"
        )
    tests = sampled_rows(run.test_rows, config.test_count, config.seed)
    (pairs,) = gather([submit(best_pairs, run.store, tests)])
    return list(pairs)


def _prediction_unit(run: Run, pairs: Sequence[Pair]) -> PredictionUnit:
    tests = tuple(sorted({pair.test_index for pair in pairs}))
    trains = tuple(sorted({pair.train_index for pair in pairs}))
    digest = run.digest("score", predictions=run.score_digest(), tests=tests, trains=trains)
    return PredictionUnit(tests, trains, digest)


def _predict(run: Run, resources: Resources, source: Source, unit: PredictionUnit) -> None:
    if finished(run.store, run_directory.PREDICTIONS_MANIFEST, unit.digest) is not None:
        return
    config = run.config
    shards = run.train_shards, _test_shards(run)
    plan = PredictionPlan(PairwisePlan(source, *shards, config.score.explained_label, config.curvature))
    with progress("predictions", 1, unit="pieces") as shown:
        run_units(
            plan,
            [unit],
            worker_shape(config.cluster, resources, 1),
            retries=config.cluster.max_retries,
            done=lambda _: shown.advance(),
            tick=shown.tick,
        )


def _test_shards(run: Run) -> tuple[Shard, ...]:
    return run.dataset.shards("test", rows=run.config.data.shard_rows, limit=run.config.score.test_limit)


def _plan_rows(run: Run, pairs: Sequence[Pair], unit: PredictionUnit) -> list[tuple[str, str]]:
    how = retraining_text(load_task(run.config.task))
    return [
        ("task", run.config.task),
        ("test inputs", f"{len(unit.tests):,} of {run.test_rows:,}"),
        ("retrainings", f"{len(unit.trains):,} for {len(pairs):,} pairs, {how}"),
    ]


def _write_table(
    source: Source,
    test_shards: tuple[Shard, ...],
    pairs: Sequence[Pair],
    unit: PredictionUnit,
    metadata: Mapping[str, str],
) -> FileReceipt:
    """Evaluate the chosen test inputs with the models before and after, and write the table."""
    store, changes = source.store, _changes(source, test_shards, pairs, unit)
    rows = [
        {"method": pair.method, "test_index": pair.test_index, "train_index": pair.train_index} | changes[pair]
        for pair in pairs
    ]
    table = pa.Table.from_pylist(rows, schema=LEAVE_ONE_OUT.schema)
    return write_table(store, run_directory.table_part(LEAVE_ONE_OUT.name, 0), table, LEAVE_ONE_OUT, metadata)


def _changes(
    source: Source, test_shards: tuple[Shard, ...], pairs: Sequence[Pair], unit: PredictionUnit
) -> dict[Pair, dict[str, float]]:
    """Return the four figures of every pair; one model is loaded at a time."""
    task, store = source.load_task(), source.store
    inputs, _ = read_rows(source, test_shards, unit.tests)
    stored = dict(zip(unit.tests, inputs, strict=True))
    predicted = read_tensors(store, run_directory.PREDICTIONS)[PREDICTED]
    model = load_model(task, model_state(read_tensors(store, run_directory.REFERENCE)))
    before = {pair: loss_of_one(task, model, stored[pair.test_index], pair.explained_label) for pair in pairs}
    changes = {}
    for place, row in enumerate(unit.trains):
        tensors = read_tensors(store, run_directory.retraining_file(row))
        model = load_model(task, model_state(tensors))
        for pair in (pair for pair in pairs if pair.train_index == row):
            after = loss_of_one(task, model, stored[pair.test_index], pair.explained_label)
            changes[pair] = {
                "predicted_test_loss_change": float(predicted[unit.tests.index(pair.test_index), place]),
                "test_loss_change": after - before[pair],
                "parameter_change": float(tensors[PARAMETER_CHANGE]),
                "train_loss_change": float(tensors[TRAIN_LOSS_CHANGE]),
            }
    return changes

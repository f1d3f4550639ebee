"""The changes that leave-one-out measures, predicted by several curvatures for the same pairs.

A curvature that is not the run's own has its factors in a run of its own inside the run's work directory: the same
checkpoint, the same settings but for the method. Curvatures in the same eigen form share factors.
"""

from collections.abc import Sequence
from dataclasses import replace

from relatif.pipeline.cluster.pool import run_units
from relatif.pipeline.cluster.session import Resources, worker_shape
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import progress, say
from relatif.pipeline.evaluations.best_pairs import PREDICTED, Pair, PredictionPlan, PredictionUnit
from relatif.pipeline.explaining.chosen_pairs import PairwisePlan
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import source_of
from relatif.pipeline.stages.exact_factors import check_size
from relatif.pipeline.stages.factors import factors
from relatif.pipeline.stages.score import table_metadata
from relatif.pipeline.storage.manifests import finished, publish_manifest, read_manifest
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.manifest import Manifest


def asked_curvatures(run: Run) -> list[CurvatureConfig]:
    """Return the curvatures that predict: the run's own, then those of ``leave_one_out.curvatures``, each once.

    Raises ConfigurationError where one of them is too large to build.
    """
    own = run.config.curvature
    methods = dict.fromkeys((own.method, *(run.config.leave_one_out.curvatures or ())))
    asked = [own if method == own.method else with_method(own, method) for method in methods]
    if any(config.eigen_method == "exact" for config in asked):
        source = source_of(run)
        check_size(source.coverage(source.load_task()))
    return asked


def with_method(config: CurvatureConfig, method: str) -> CurvatureConfig:
    """Return the same settings with another method; a Hessian becomes the Fisher, as only ``exact`` has one."""
    matrix = config.exact_matrix if method == "exact" else "fisher"
    return CurvatureConfig.model_validate(config.model_dump() | {"method": method, "exact_matrix": matrix})


def with_curvature(run: Run, config: CurvatureConfig) -> Run:
    """Return the run with another curvature, where it lies."""
    return replace(run, config=run.config.model_copy(update={"curvature": config}))


def factors_run(run: Run, config: CurvatureConfig) -> Run:
    """Return the run that has a curvature's factors: the run itself where it has them, else one inside of it."""
    built = with_method(config, config.eigen_method)
    own = run.config.curvature
    if built == with_method(own, own.eigen_method):
        return run
    return replace(with_curvature(run, built), store=run.store.child(run_directory.curvature(built.method)))


def predict(run: Run, resources: Resources, curvature: CurvatureConfig, pairs: Sequence[Pair]) -> None:
    """Predict the changes of all pairs by one curvature, with proof; build its factors where there are none."""
    built = factors_run(run, curvature)
    _build(run, built, resources, curvature.method)
    unit = _unit(with_curvature(run, curvature), built.factors(), pairs)
    if finished(run.store, run_directory.predictions_manifest(unit.method), unit.digest) is not None:
        return
    config = run.config
    shards = run.train_shards, run.test_shards
    plan = PredictionPlan(PairwisePlan(source_of(built), *shards, config.score.explained_label, curvature), run.store)
    with progress(f"predictions by {unit.method}", 1, unit="pieces") as shown:
        run_units(
            plan,
            [unit],
            worker_shape(config.cluster, resources, 1),
            retries=config.cluster.max_retries,
            done=lambda _: shown.advance(),
            tick=shown.tick,
        )


def read_predictions(store: Store, method: str, pairs: Sequence[Pair]) -> dict[tuple[int, int], float]:
    """Return the predicted change of each distinct pair of test input and training example, in rising order."""
    tests, trains = rows_of(pairs)
    predicted = read_tensors(store, run_directory.predictions_file(method))[PREDICTED]
    distinct = sorted({(pair.test_index, pair.train_index) for pair in pairs})
    return {(test, train): float(predicted[tests.index(test), trains.index(train)]) for test, train in distinct}


def predictions_metadata(run: Run, curvatures: Sequence[CurvatureConfig]) -> dict[str, str]:
    """Return what a table by several curvatures says of itself: where they differ, each one's, in their order."""
    said = [table_metadata(with_curvature(run, curvature)) for curvature in curvatures]
    values = {key: [each[key] for each in said] for key in said[0]}
    return {key: each[0] if len(set(each)) == 1 else "; ".join(each) for key, each in values.items()}


def rows_of(pairs: Sequence[Pair]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the test inputs and the training examples of some pairs, in rising order."""
    return tuple(sorted({pair.test_index for pair in pairs})), tuple(sorted({pair.train_index for pair in pairs}))


def _build(run: Run, built: Run, resources: Resources, method: str) -> None:
    """Bring the checkpoint and the factors to where a curvature's factors lie."""
    if built.store == run.store:
        return
    checkpoint = run.checkpoint()
    if finished(built.store, run_directory.CHECKPOINT_MANIFEST, checkpoint.digest) != checkpoint:
        gather([submit(_copy_checkpoint, run.store, built.store)])
    if finished(built.store, run_directory.FACTORS_MANIFEST, built.factors_digest()) is None:
        say(f"leave_one_out: factors of {built.config.curvature.method}, for predictions by {method}")
        factors(built, resources)


def _copy_checkpoint(store: Store, other: Store) -> None:
    other.publish_bytes(run_directory.CHECKPOINT, store.read_bytes(run_directory.CHECKPOINT))
    publish_manifest(other, run_directory.CHECKPOINT_MANIFEST, read_manifest(store, run_directory.CHECKPOINT_MANIFEST))


def _unit(run: Run, factored: Manifest, pairs: Sequence[Pair]) -> PredictionUnit:
    tests, trains = rows_of(pairs)
    depends = {
        "checkpoint": run.checkpoint().outputs[0].sha256,
        "factors": [output.sha256 for output in factored.outputs],
    }
    digest = run.digest("score", predictions=depends, tests=tests, trains=trains)
    return PredictionUnit(run.config.curvature.method, tests, trains, digest)

"""The changes that leave-one-out measures, predicted by several curvatures for the same pairs.

A curvature that is not the run's own has its factors in a run of its own inside the run's work directory: the same
checkpoint, the same settings but for the method. Curvatures in the same eigen form share factors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from relatif.pipeline.console import say
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.evaluations.best_pairs import CORRECTED, PREDICTED, Pair, PredictionPlan, PredictionUnit
from relatif.pipeline.explaining.chosen_pairs import ChosenPairsPlan
from relatif.pipeline.explaining.covered import coverage_of
from relatif.pipeline.explaining.measured import measurement_name
from relatif.pipeline.explaining.metadata import curvature_metadata
from relatif.pipeline.runs.durable import complete, look_up
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import Proofs, StageRun
from relatif.pipeline.stages.factors import FACTORS, builder_of
from relatif.pipeline.stages.train import TRAIN
from relatif.pipeline.storage.manifests import read_manifest, verified_bytes
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_proven_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.manifest import Manifest

Changes = Mapping[str, float | None]
"""Of a pair, by column; None where there is no such change."""


def asked_curvatures(run: Run) -> list[CurvatureConfig]:
    """Return the curvatures that predict: the run's own, then those of ``leave_one_out.curvatures``, each once.

    Raises ConfigurationError where one of them is too large to build.
    """
    own = run.config.curvature
    methods = dict.fromkeys((own.method, *(run.config.leave_one_out.curvatures or ())))
    asked = [own if method == own.method else with_method(own, method) for method in methods]
    for config in asked:
        builder_of(config.eigen_method).check(coverage_of(run.task, *own.chosen))
    return asked


def with_method(config: CurvatureConfig, method: str) -> CurvatureConfig:
    """Return the same settings with another method; a Hessian becomes the Fisher, as only ``exact`` has one."""
    matrix = config.exact_matrix if method == "exact" else "fisher"
    return CurvatureConfig.model_validate(config.model_dump() | {"method": method, "exact_matrix": matrix})


def with_curvature(run: Run, config: CurvatureConfig) -> Run:
    """Return a copy of the run with another curvature's settings, in the same store."""
    return replace(run, config=run.config.model_copy(update={"curvature": config}))


def factors_run(run: Run, config: CurvatureConfig) -> Run:
    """Return the run that has a curvature's factors: the run itself where it has them, else one inside of it."""
    built = with_method(config, config.eigen_method)
    own = run.config.curvature
    if built == with_method(own, own.eigen_method):
        return run
    return replace(with_curvature(run, built), store=run.store.child(run_directory.curvature(built.method)))


def predict(stage: StageRun, curvature: CurvatureConfig, pairs: Sequence[Pair]) -> None:
    """Predict the changes of all pairs by one curvature; build its factors where there are none."""
    run = stage.run
    built = factors_run(run, curvature)
    unit = _unit(stage, curvature, _factors(stage, built, curvature.method), pairs)
    explained = run.config.score.explained_label
    measured = measurement_name(run.config.score, run.task.likelihood)
    chosen = ChosenPairsPlan(built.source, run.train_shards, run.test_shards, explained, curvature, measured)
    found = look_up(run.store, [unit])
    if found.pending:
        complete(found, PredictionPlan(chosen, run.store), stage.cluster, title=unit.name, counted="pieces")


def read_predictions(
    store: Store, method: str, pairs: Sequence[Pair]
) -> dict[tuple[int, int], dict[str, float | None]]:
    """Return the predicted changes of each distinct pair of test input and training example, in rising order.

    They are those of the first order, and the corrected ones: None where there are none.
    """
    tests, trains = rows_of(pairs)
    path, proof = run_directory.predictions_file(method), run_directory.predictions_manifest(method)
    tensors = read_proven_tensors(store, path, proof)
    found = {}
    for test, train in distinct_pairs(pairs):
        place = tests.index(test), trains.index(train)
        corrected = float(tensors[CORRECTED][place])
        found[test, train] = {
            PREDICTED: float(tensors[PREDICTED][place]),
            CORRECTED: None if math.isnan(corrected) else corrected,
        }
    return found


def distinct_pairs(pairs: Sequence[Pair]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of test input and training example, each once, in rising order."""
    return tuple(sorted({(pair.test_index, pair.train_index) for pair in pairs}))


def predictions_metadata(curvatures: Sequence[CurvatureConfig], likelihood: Likelihood) -> dict[str, str]:
    """Merge the metadata of several curvatures; values that differ are joined by ``; ``, in their order."""
    found = [curvature_metadata(curvature, likelihood) for curvature in curvatures]
    values = {key: [each[key] for each in found] for key in found[0]}
    return {key: each[0] if len(set(each)) == 1 else "; ".join(each) for key, each in values.items()}


def rows_of(pairs: Sequence[Pair]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the test inputs and the training examples of some pairs, in rising order."""
    return tuple(sorted({pair.test_index for pair in pairs})), tuple(sorted({pair.train_index for pair in pairs}))


def _factors(stage: StageRun, built: Run, method: str) -> Manifest:
    """Return the proof of a curvature's factors; where they are not the run's own, build those that are missing."""
    if built.store == stage.run.store:
        return stage.proofs[FACTORS.name]
    if Proofs(built).find(TRAIN) is None:
        stage.on_worker(partial(_copy_checkpoint, stage.run.store, built.store))
    proofs = Proofs(built)
    found = proofs.find(FACTORS)
    if found is not None:
        return found
    say(f"leave_one_out: factors of {built.config.curvature.method}, for predictions by {method}")
    return proofs.make(FACTORS, stage.cluster)


def _copy_checkpoint(store: Store, other: Store) -> None:
    """Copy the model and what lies beside it, then its proof, which holds for the copy too."""
    proof = run_directory.CHECKPOINT_MANIFEST
    outputs = read_manifest(store, proof).outputs
    for receipt in outputs:
        other.publish_bytes(receipt.path, verified_bytes(store, receipt))
    other.publish_bytes(proof, store.read_bytes(proof))


def _unit(stage: StageRun, curvature: CurvatureConfig, factored: Manifest, pairs: Sequence[Pair]) -> PredictionUnit:
    tests, trains = rows_of(pairs)
    digest = stage.shared_digest(
        "predictions",
        "relatif.pipeline.evaluations.best_pairs",
        curvature=curvature.model_dump(mode="json"),
        factors=[output.sha256 for output in factored.outputs],
        pairs=distinct_pairs(pairs),
    )
    return PredictionUnit(curvature.method, tests, trains, distinct_pairs(pairs), digest)

"""Stage evaluate: the evaluations that the settings name, each with proof of its own."""

import time
from collections.abc import Mapping

from relatif.pipeline.cluster.session import Resources
from relatif.pipeline.console import progress, say
from relatif.pipeline.evaluations.class_agreement import CLASS_AGREEMENT_TESTS
from relatif.pipeline.evaluations.evaluation import Evaluation
from relatif.pipeline.evaluations.linear_datamodeling import LINEAR_DATAMODELING_SCORES
from relatif.pipeline.evaluations.mislabel_detection import MISLABEL_DETECTION_CURVES
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.score import table_metadata
from relatif.pipeline.storage.manifests import finished, publish_manifest
from relatif.schemas import run_directory
from relatif.schemas.digests import digest
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.manifest import Manifest

EVALUATIONS: Mapping[str, Evaluation] = {
    each.name: each for each in (CLASS_AGREEMENT_TESTS, MISLABEL_DETECTION_CURVES, LINEAR_DATAMODELING_SCORES)
}
"""Evaluations by the names that ``evaluate.what`` takes, in the order in which they are made."""


def chosen(run: Run) -> list[Evaluation]:
    """Return the evaluations that ``evaluate.what`` names; by default all that need no training.

    Raises ConfigurationError for a named one that can't be made of such a run.
    """
    what = run.config.evaluate.what
    if what is None:
        return [each for each in EVALUATIONS.values() if not each.trains and each.obstacle(run) is None]
    for name in what:
        obstacle = EVALUATIONS[name].obstacle(run)
        if obstacle is not None:
            raise ConfigurationError(f"evaluate.what = {name}: {obstacle}")
    return [each for name, each in EVALUATIONS.items() if name in what]


def evaluate(run: Run, resources: Resources) -> None:
    """Make the chosen evaluations of the finished score tables; what is finished is not made again."""
    run.scores()
    made = chosen(run)
    with progress("evaluate", len(made), unit="evaluations") as shown:
        for evaluation in made:
            if _is_finished(run, evaluation):
                say(f"evaluate: {evaluation.name} was finished earlier, as its manifest proves: not made again")
            else:
                _make(run, resources, evaluation)
            shown.advance(note=evaluation.name)


def evaluations_proof(run: Run) -> Manifest:
    """Return one proof of all chosen evaluations; MissingStageError where one is not finished."""
    proofs = [run.proof(_manifest(each), _digest(run, each), stage="evaluate") for each in chosen(run)]
    return Manifest(
        work="evaluate",
        digest=digest([proof.digest for proof in proofs]),
        outputs=tuple(output for proof in proofs for output in proof.outputs),
        seconds=sum(proof.seconds for proof in proofs),
    )


def _make(run: Run, resources: Resources, evaluation: Evaluation) -> None:
    started = time.monotonic()
    outputs = evaluation.evaluate(run, resources, table_metadata(run))
    proof = Manifest(
        work=f"evaluate {evaluation.name}",
        digest=_digest(run, evaluation),
        outputs=tuple(outputs),
        seconds=round(time.monotonic() - started, 3),
    )
    publish_manifest(run.store, _manifest(evaluation), proof)


def _is_finished(run: Run, evaluation: Evaluation) -> bool:
    return finished(run.store, _manifest(evaluation), _digest(run, evaluation)) is not None


def _digest(run: Run, evaluation: Evaluation) -> str:
    return run.digest(evaluation.name, score=run.score_digest())


def _manifest(evaluation: Evaluation) -> str:
    return run_directory.stage_manifest(f"evaluate-{evaluation.name}")

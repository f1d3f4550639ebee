"""Evaluations are stages: each by its name, after score, with a proof of its own."""

from relatif.pipeline.evaluations.evaluate import EVALUATIONS
from relatif.pipeline.stages.score import SCORE


def test_every_evaluation_is_a_stage_after_score_with_a_proof_of_its_own() -> None:
    assert all(evaluation.name == evaluation.stage.name == name for name, evaluation in EVALUATIONS.items())
    assert {evaluation.stage.after for evaluation in EVALUATIONS.values()} == {(SCORE,)}
    assert len({evaluation.stage.manifest for evaluation in EVALUATIONS.values()}) == len(EVALUATIONS)
    assert not any(evaluation.stage.lasting for evaluation in EVALUATIONS.values())

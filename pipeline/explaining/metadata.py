"""The metadata of every table of a run."""

from relatif.pipeline.curvature.coverage import coverage_text
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.curvature.sides import wide_sides
from relatif.pipeline.explaining.covered import coverage_of, curvature_text, precision_of
from relatif.pipeline.explaining.measured import measured_text, measurement_name, sign_text
from relatif.pipeline.runs.stage import StageRun
from relatif.schemas.config import CurvatureConfig


def metadata_of(stage: StageRun) -> dict[str, str]:
    """Return the metadata of the tables that a stage writes."""
    run = stage.run
    covered = coverage_of(run.task, *run.config.curvature.chosen)
    measured = measurement_name(run.config.score, run.task.likelihood)
    return {
        "task": run.config.task,
        **curvature_metadata(run.config.curvature, run.task.likelihood),
        "covered_parameters": coverage_text(covered),
        "precision": precision_of(run.config.curvature, covered),
        "diagonal_factors": "; ".join(wide_sides(covered.blocks)),
        "measurement": measured_text(measured, run.config.score),
        "sign": sign_text(measured),
        "scaling": f"influence is g_t' (H + lambda I)^-1 g_i of per-example losses; leaving example i out of n changes "
        f"{'the test loss' if measured == LOSS else f'minus the {measured}'} by influence / n to first order",
        "explained_label": str(run.config.score.explained_label),
        "train_count": str(run.train_rows),
        "scored_part": run.config.data.scored or "train",
        "test_count": str(run.test_rows),
        "labels": run.dataset.labelling.text,
        "data_fingerprint": run.dataset.fingerprint,
        "checkpoint_sha256": stage.checkpoint,
        "code_version": stage.code_version,
    }


def curvature_metadata(config: CurvatureConfig, likelihood: Likelihood) -> dict[str, str]:
    """Return the part of the metadata that depends on the curvature."""
    return {
        "curvature": config.method,
        "damping": repr(config.effective_damping),
        "denominators": config.eigen_method,
        "fisher": curvature_text(config, likelihood),
    }

"""Stage factors: sums over training shards, eigendecomposed, one file per layer or one for all.

Every curvature in eigen form is a builder: how many steps it takes, and how it is built on the cluster.
"""

import json
from dataclasses import asdict
from importlib import import_module

from relatif.pipeline.console import progress, say
from relatif.pipeline.curvature.coverage import coverage_text
from relatif.pipeline.explaining.covered import coverage_of, curvature_text, fisher_of
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.stages.building import Builder, Building
from relatif.pipeline.stages.train import TRAIN
from relatif.schemas import run_directory
from relatif.schemas.builders import BUILDERS


def builder_of(method: str) -> Builder:
    """Return the builder of a curvature in eigen form, by its name in the settings."""
    module, _, name = BUILDERS[method].partition(":")
    found: Builder = getattr(import_module(module), name)
    return found


def factors(stage: StageRun) -> Made:
    """Build the curvature's factors on the cluster."""
    run, config = stage.run, stage.run.config.curvature
    covered = coverage_of(run.task, config.layers)
    say(f"factors: {coverage_text(covered)}")
    builder = builder_of(config.eigen_method)
    builder.check(covered)
    building = Building(run, stage.cluster, covered)
    total, unit = builder.steps(building)
    with progress("factors", total, unit=unit) as shown:
        receipts = builder.build(building, shown)
    parameters = json.dumps([asdict(parameter) for parameter in covered.parameters], indent=1).encode()
    receipts.append(run.store.publish_bytes(run_directory.COVERAGE, parameters))
    return Made(tuple(receipts), {"method": config.eigen_method, "fisher": curvature_text(config, run.task.likelihood)})


def check_layers(run: Run) -> None:
    """Raise what ``coverage`` and the curvature raise for layers that the model lacks or that they can't treat.

    A Fisher that the likelihood can't have is refused, too.
    """
    config = run.config.curvature
    fisher_of(config, run.task.likelihood)
    builder_of(config.eigen_method).check(coverage_of(run.task, config.layers))


FACTORS = Stage(
    "factors",
    factors,
    run_directory.FACTORS_MANIFEST,
    settings=(
        "curvature.method",
        "curvature.exact_matrix",
        "curvature.denominators",
        "curvature.layers",
        "curvature.fisher",
        "curvature.fisher_",
        "curvature.precision",
    ),
    after=(TRAIN,),
    lasting=True,
    parts=("train",),
    check=check_layers,
    modules=lambda run: (BUILDERS[run.config.curvature.eigen_method].partition(":")[0],),
)

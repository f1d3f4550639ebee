"""Stage factors: sums over training shards, eigendecomposed, one file per layer or one for all.

Every curvature in eigen form is a builder: how many steps it takes, and how it is built on the cluster.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from typing import Any

import torch

from relatif.pipeline.cluster.session import joins_cluster
from relatif.pipeline.console import progress, say
from relatif.pipeline.curvature.coverage import Coverage, coverage_text
from relatif.pipeline.curvature.precision import refuse_without_gpu
from relatif.pipeline.curvature.sides import wide_sides
from relatif.pipeline.explaining.covered import coverage_of, curvature_text, fisher_of, precision_of
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.stages.building import Builder, Building
from relatif.pipeline.stages.train import TRAIN
from relatif.schemas import run_directory
from relatif.schemas.builders import BUILDERS
from relatif.schemas.errors import ClusterError


def builder_of(method: str) -> Builder:
    """Return the builder of a curvature in eigen form, by its name in the settings."""
    module, _, name = BUILDERS[method].partition(":")
    found: Builder = getattr(import_module(module), name)
    return found


def factors(stage: StageRun) -> Made:
    """Build the curvature's factors on the cluster."""
    run, config = stage.run, stage.run.config.curvature
    covered = coverage_of(run.task, *config.chosen)
    say(f"factors: {coverage_text(covered)}")
    builder = builder_of(config.eigen_method)
    builder.check(covered)
    building = Building(run, stage.cluster, covered)
    total, unit = builder.steps(building)
    with progress("factors", total, unit=unit) as shown:
        receipts = builder.build(building, shown)
    parameters = json.dumps(described(covered), indent=1).encode()
    receipts.append(run.store.publish_bytes(run_directory.COVERAGE, parameters))
    return Made(tuple(receipts), {"method": config.eigen_method, "fisher": curvature_text(config, run.task.likelihood)})


def check_layers(run: Run) -> None:
    """Raise what ``coverage`` and the curvature raise for layers that the model lacks or that they can't treat.

    A Fisher that the likelihood can't have is refused, too.
    """
    config = run.config.curvature
    fisher_of(config, run.task.likelihood)
    covered = coverage_of(run.task, *config.chosen)
    builder_of(config.eigen_method).check(covered)
    # The machines of a cluster that would be joined may have what this one lacks.
    with suppress(ClusterError):
        refuse_without_gpu(precision_of(config, covered), found=torch.cuda.is_available() or joins_cluster())


def described(covered: Coverage) -> list[dict[str, Any]]:
    """Return what ``coverage.json`` says of each parameter; of wide sides that a diagonal stands for their moment."""
    diagonal = {name: wide_sides({name: shape}) for name, shape in covered.blocks.items()}
    described = []
    for parameter in covered.parameters:
        wide = diagonal.get(parameter.name.rpartition(".")[0]) if parameter.covered else None
        reason = f"{parameter.reason}, a diagonal for the {' and the '.join(wide)}" if wide else parameter.reason
        described.append({**asdict(parameter), "reason": reason})
    return described


FACTORS = Stage(
    "factors",
    factors,
    run_directory.FACTORS_MANIFEST,
    settings=(
        "curvature.method",
        "curvature.exact_matrix",
        "curvature.denominators",
        "curvature.layers",
        "curvature.exclude",
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

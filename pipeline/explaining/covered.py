"""Which parameters of a task's model are explained, and the trained model with exactly those."""

from functools import lru_cache

import torch
from torch import nn

from relatif.pipeline.curvature.coverage import Coverage, coverage
from relatif.pipeline.curvature.fisher import Fisher, Kind
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.precision import Precision, default_precision, in_precision
from relatif.pipeline.devices import CPU
from relatif.pipeline.runs.source import Source
from relatif.pipeline.tasks.task import Task
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import ConfigurationError


@lru_cache(maxsize=4)
def coverage_of(task: Task, layers: tuple[str, ...] | None, exclude: tuple[str, ...] = ()) -> Coverage:
    """Return which parameters of a task's model are explained; raises as ``coverage``.

    An untrained model is built for this, once for each task and choice.
    """
    with torch.random.fork_rng(devices=[]):
        return coverage(task.build_model(), layers, exclude)


def load_covered_model(
    source: Source, task: Task, config: CurvatureConfig, device: torch.device | str = CPU
) -> CoveredModel:
    """Return the trained model in the curvature's precision, with its covered layers, everything else frozen."""
    subject = covered_model(source.load_model(task, device), source, task, config)
    return in_precision(subject, precision_of(config, subject.coverage), device)


def covered_model(model: nn.Module, source: Source, task: Task, config: CurvatureConfig) -> CoveredModel:
    """Return a task's model with its covered layers, everything else frozen (in place); raises as ``coverage``."""
    return covered_of(model, task.likelihood, config, (source.layers, source.exclude))


def covered_of(
    model: nn.Module,
    likelihood: Likelihood,
    config: CurvatureConfig,
    chosen: tuple[tuple[str, ...] | None, tuple[str, ...]],
) -> CoveredModel:
    """Return a model with its covered layers, those of the ``chosen`` patterns, everything else frozen (in place).

    Raises as ``coverage``.
    """
    # What is not covered is frozen, so that backward passes need not reach it.
    covered = {parameter.name for parameter in coverage(model, *chosen).parameters if parameter.covered}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in covered)
    return CoveredModel(model, coverage(model, *chosen), likelihood, fisher_of(config, likelihood))


def precision_of(config: CurvatureConfig, covered: Coverage) -> Precision:
    """Return the precision that the settings ask for, by default the one for so many parameters.

    Dense matrices and solutions are float64.
    """
    if config.is_iterative or config.eigen_method == "exact":
        return "float64"
    return config.precision or default_precision(covered.covered_count)


def fisher_of(config: CurvatureConfig, likelihood: Likelihood) -> Fisher:
    """Return the Fisher that the settings ask for, by default the likelihood's own.

    Raises ConfigurationError where targets are to be drawn from what is no likelihood.
    """
    default: Kind = getattr(likelihood, "default_fisher", "exact")
    kind = config.fisher or default
    if kind == "sampled" and _gauss_newton(likelihood) is not None:
        raise ConfigurationError(
            "expected curvature.fisher = exact with class weights or smoothed labels, found sampled; such a loss is "
            "no likelihood from which labels could be drawn: leave the setting out"
        )
    return Fisher(kind, config.fisher_samples, config.fisher_seed)


def curvature_text(config: CurvatureConfig, likelihood: Likelihood) -> str:
    """Return which second moment or Hessian the curvature is, as tables describe it."""
    if config.eigen_method == config.method == "identity":
        return "none"
    if config.eigen_method == "exact" and config.exact_matrix == "hessian":
        return "none: Hessian of the mean training loss"
    fisher = fisher_of(config, likelihood)
    gauss_newton = _gauss_newton(likelihood)
    return fisher.text if fisher.kind != "exact" or gauss_newton is None else gauss_newton


def _gauss_newton(likelihood: Likelihood) -> str | None:
    """Return in words the curvature of a loss that is no likelihood, and None for a likelihood."""
    found: str | None = getattr(likelihood, "gauss_newton", None)
    return found

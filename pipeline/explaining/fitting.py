"""The pure way: a model, its likelihood and tensors in, scores and denominators out. No run, no Ray, no files.

Axes: N training examples, M test inputs.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from relatif.pipeline.auditing.audit import Sample, audit
from relatif.pipeline.calls import raised
from relatif.pipeline.curvature.eigen import (
    JOINT,
    Curvature,
    DenseBasis,
    KroneckerBasis,
    LayerCurvature,
    check_positive,
    influence,
)
from relatif.pipeline.curvature.exact import (
    Strip,
    check_size,
    fisher_strips,
    hessian_strips,
    joint_eigen,
    joint_matrix,
    strips_of,
)
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.kronecker import (
    KroneckerSums,
    SpectrumSums,
    eigenbasis,
    kronecker_spectrum,
    kronecker_sums,
    spectrum_sums,
)
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.precision import in_precision
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.covered import covered_of, precision_of
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.measured import measurement_name
from relatif.pipeline.explaining.shown_tensors import shown_inputs
from relatif.pipeline.explaining.subset_scores import relative
from relatif.pipeline.inputs import Inputs, count
from relatif.pipeline.runs.source import model_examples
from relatif.pipeline.showing.fragment import documents
from relatif.pipeline.tasks.task import Task, as_stored
from relatif.schemas.config import CurvatureConfig, ScoreConfig
from relatif.schemas.errors import ConfigurationError, DataError, ModelError
from relatif.schemas.methods import INFLUENCE, METHODS
from relatif.schemas.reading import parse_config

ROWS = 256
"""Training examples whose gradients are held at once."""

SHOWN = ("influence", "l_relatif")
"""Methods of which a notebook shows the best examples."""

AUDITED = 4
"""Training examples on which the model is audited."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Influence [M, N] of training examples on test inputs, and the table columns of both, [M] and [N] each.

    ``inputs`` are what the model reads of both, ``measurement`` is what was explained: a notebook shows the first ones.
    """

    influence: Tensor
    test: Mapping[str, Tensor]
    train: Mapping[str, Tensor]
    inputs: tuple[Inputs, Inputs] | None = None
    measurement: str = LOSS

    def scores(self, method: str = "l_relatif") -> Tensor:
        """Return a method's scores, [M, N]: ``influence``, ``theta_relatif``, ``l_relatif`` or ``negative_influence``.

        Raises ConfigurationError for another method: its scores are made of something else than influence.
        """
        known = [name for name, each in METHODS.items() if each.numerator == INFLUENCE]
        if method not in known:
            raise ConfigurationError(f"expected a method of {', '.join(known)}, found {method!r}; choose one of them")
        return METHODS[method].sign * relative(METHODS[method], self.influence, self.train)

    def top(self, method: str = "l_relatif", k: int = 10) -> tuple[Tensor, Tensor]:
        """Return the k highest scores of each test input and their training examples, [M, k] each.

        Equal scores come in the order of the examples. Raises ConfigurationError for a k that is not between 1 and N.
        """
        scores = self.scores(method)
        if not 1 <= k <= scores.shape[1]:
            raise ConfigurationError(f"expected k between 1 and {scores.shape[1]} training examples, found {k}")
        values, rows = scores.sort(dim=1, descending=True, stable=True)
        return values[:, :k], rows[:, :k]

    def _repr_html_(self) -> str | None:
        if self.inputs is None:
            return None
        scores = {name: self.scores(name) for name in SHOWN}
        return documents(shown_inputs(scores, self.influence, (self.test, self.train), self.inputs, self.measurement))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model with the curvature of its training set: what ``fit`` returns. It explains any input of the model."""

    explainer: Explainer
    examples: Examples

    def explain(
        self,
        inputs: Inputs,
        targets: Tensor | None = None,
        *,
        explained: Literal["predicted", "true"] | int = "predicted",
        measurement: str | None = None,
    ) -> Explanation:
        """Explain inputs [M, ...] in a pass over the training set, whose gradients are not kept.

        ``explained`` is the target: the model's (``predicted``), the given one (``true``), or a class. ``measurement``
        is what is explained of it, as ``score.measurement``. ``targets`` [M, ...] may be missing where targets are
        classes and the given ones are not explained. Raises ConfigurationError for a choice that the likelihood lacks,
        and as the score stage does for what can't be right.
        """
        explainer, likelihood = self.explainer, self.explainer.subject.likelihood
        if targets is None:
            targets = _unknown(likelihood, count(inputs), explained)
        _check_labels(likelihood, targets, unknown=explained != "true")
        if likelihood.classes is not None:
            likelihood.check_choice(explained, likelihood.classes)
        name = measurement_name(ScoreConfig(explained_label=explained, measurement=measurement), likelihood)
        examples = model_examples(explainer.task, inputs, targets, 0, explainer.worker.device)
        queries = explainer.explain(examples, explained=explained, split="test", measurement=name)
        columns, scores = [], []
        for chunk in chunks(self.examples):
            part = explainer.explain(chunk, explained="true", split="train")
            scores.append(influence(explainer.curvature, queries.gradients, part.gradients))
            columns.append(part.columns)
        train = {name: torch.cat([each[name] for each in columns]) for name in columns[0]}
        read = examples.inputs, self.examples.inputs
        return Explanation(torch.cat(scores, dim=1), queries.columns, train, read, name)


def fit(model: nn.Module, likelihood: Likelihood, inputs: Inputs, targets: Tensor, **curvature: Any) -> Fitted:
    """Fit the curvature of a trained model over its training set: inputs [N, ...] and targets [N, ...].

    The model is copied, and computes in evaluation mode on the device where it is. ``curvature`` are settings of that
    section by their names, such as ``method="ekfac"``, ``damping=1e-3``, ``layers=["head"]`` or ``exclude=["*.bias"]``;
    curvatures that are solved for (cg, lissa) need a run. The model is audited on the first training examples, as every
    run does. Raises ConfigurationError for settings that make no sense, DataError for labels that are no classes,
    ModelError for a model whose scores would be wrong, and NumericalError for values that are not finite.

    >>> import relatif
    >>> model = nn.Linear(2, 3)
    >>> inputs, labels = torch.randn(20, 2), torch.randint(3, (20,))
    >>> fitted = relatif.fit(model, relatif.Categorical(3), inputs, labels, method="exact")
    >>> values, rows = fitted.explain(torch.randn(4, 2)).top("l_relatif", k=5)
    >>> rows.shape
    torch.Size([4, 5])
    """
    config = _settings(curvature)
    _check_labels(likelihood, targets, unknown=False)
    if not count(inputs):
        raise ConfigurationError("expected training examples, found none; give inputs with at least one row")
    subject = _subject(model, likelihood, config)
    device = next(str(each.device) for each in subject.model.parameters())
    task = Task("model", likelihood=likelihood, build_model=lambda: subject.model)
    examples = model_examples(task, inputs, targets, 0, device)
    first = examples.rows(0, AUDITED)
    audit(subject, as_stored, (Sample("train", first.inputs, first, "true"),))
    subject = in_precision(subject, precision_of(config, subject.coverage), device)
    curvature_found = fitted_curvature(subject, examples, config)
    return Fitted(Explainer(task, subject, curvature_found, Worker(torch.get_num_threads(), device)), examples)


def fitted_curvature(subject: CoveredModel, examples: Examples, config: CurvatureConfig) -> Curvature:
    """Return a model's curvature over all examples in the eigen form that the settings ask for.

    Raises ConfigurationError where the exact one would be too large, NumericalError for values that are not finite and
    for a Hessian that is not positive definite.
    """
    method, damping = config.eigen_method, config.eigen_damping
    if method == "exact":
        return _exact(subject, examples, config)
    if method == "identity":
        shapes = subject.coverage.blocks.items()
        zeros = {name: LayerCurvature(None, torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes}
        return Curvature(zeros, damping)
    sums = reduce(KroneckerSums.add, (kronecker_sums(subject, chunk) for chunk in chunks(examples)))
    eigen = {}
    for name, layer in sums.layers.items():
        one = layer.single()
        eigen[name] = [eigenbasis(moment, sums.count) for moment in (one.output_moment, one.input_moment)]
    bases = {name: KroneckerBasis(output[1], input_[1]) for name, (output, input_) in eigen.items()}
    if method == "kfac":
        spectra = {name: kronecker_spectrum(output[0], input_[0]) for name, (output, input_) in eigen.items()}
    else:
        squares = reduce(SpectrumSums.merge, (spectrum_sums(subject, chunk, bases) for chunk in chunks(examples)))
        spectra = {name: values / squares.count for name, values in squares.layers.items()}
    return Curvature({name: LayerCurvature(bases[name], spectra[name]) for name in bases}, damping)


def chunks(examples: Examples) -> Iterator[Examples]:
    """Yield consecutive examples, at most ROWS at a time."""
    return (examples.rows(start, start + ROWS) for start in range(0, len(examples), ROWS))


def _exact(subject: CoveredModel, examples: Examples, config: CurvatureConfig) -> Curvature:
    check_size(subject.coverage)
    strips, is_fisher = strips_of(subject.coverage), config.exact_matrix == "fisher"
    of_batch = fisher_strips if is_fisher else hessian_strips
    total: dict[Strip, Tensor] = {}
    for chunk in chunks(examples):
        for strip, part in of_batch(subject, chunk, strips).items():
            total[strip] = total[strip].add_(part) if strip in total else part
    values, vectors = joint_eigen(joint_matrix(subject.coverage, total) / len(examples))
    # A mean of squares: what is below zero is rounding.
    values = values.clamp(min=0.0) if is_fisher else values
    curvature = Curvature({JOINT: LayerCurvature(DenseBasis(vectors), values[None])}, config.eigen_damping)
    check_positive(curvature)
    return curvature


def _settings(given: Mapping[str, Any]) -> CurvatureConfig:
    """Return the settings of a curvature; ConfigurationError where they make no sense, or ask for a solver."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    content = {"task": "model", "data": {"source": "."}, "curvature": plain}
    config = parse_config(content, origin="relatif.fit").curvature
    if config.is_iterative:
        raise ConfigurationError(
            f"expected a curvature in eigen form (kfac, ekfac, exact, identity), found {config.method}; choose one of "
            f"these, or make a run"
        )
    return config


def _subject(model: nn.Module, likelihood: Likelihood, config: CurvatureConfig) -> CoveredModel:
    """Return a copy of a model in float64 and evaluation mode, what is not covered frozen."""
    try:
        own = copy.deepcopy(model).double().eval()
    except Exception as error:
        raise ModelError(
            f"expected a model that can be copied, found {raised(error)}; give a plain nn.Module"
        ) from error
    return covered_of(own, likelihood, config, config.chosen)


def _check_labels(likelihood: Likelihood, targets: Tensor, *, unknown: bool) -> None:
    """Raise DataError where targets [N] that are classes are no class numbers; with ``unknown`` -1 is one, too."""
    if likelihood.classes is None:
        return
    lowest = UNLABELLED if unknown else 0
    whole = targets.ndim == 1 and targets.dtype == torch.int64
    if not whole or bool(((targets < lowest) | (targets >= likelihood.classes)).any()):
        found = f"numbers from {int(targets.min())} to {int(targets.max())}" if whole else f"{targets.dtype}"
        raise DataError(
            f"expected targets int64 [N] of class numbers from 0 to {likelihood.classes - 1}, found {found} of shape "
            f"{list(targets.shape)}; give the numbers of the classes"
        )


def _unknown(likelihood: Likelihood, number: int, explained: str | int) -> Tensor:
    """Return targets of inputs that have none; ConfigurationError where they are needed."""
    if likelihood.classes is None or explained == "true":
        raise ConfigurationError(
            "expected targets, found none; give them (where targets are classes, what is predicted needs none; numbers "
            "that are not known are NaN)"
        )
    return torch.full((number,), UNLABELLED)

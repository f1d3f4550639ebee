"""Scores of small models without Ray: by the pipeline's own functions, and by torch.func with an explicit inverse.

Axes: N training examples, M test inputs, P covered parameters. Everything is float64.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import influence
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.fitting import fitted_curvature
from relatif.schemas.config import CurvatureConfig

LARGEST = 5_000
"""Covered parameters of a model whose curvature is inverted as one dense matrix."""

AGREEMENT = 1e-6
"""Of the largest score: what is promised of a worked example."""

Inputs = Any
"""A tensor, a tuple or a dict of tensors, each [N, ...]."""


def pipeline_scores(
    model: nn.Module,
    likelihood: Likelihood,
    train: Examples,
    test: Examples,
    damping: float,
    *,
    measurement: str = "loss",
) -> Tensor:
    """Return influence [M, N] of test inputs at their predictions, by the exact curvature of the pipeline.

    ``measurement`` is what is explained of the predictions.
    """
    subject = CoveredModel(model, coverage(model), likelihood, Fisher())
    curvature = fitted_curvature(subject, train, CurvatureConfig(method="exact", damping=damping))
    task: Any = None
    explainer = Explainer(task, subject, curvature, Worker())
    queries = explainer.explain(test, explained="predicted", split="test", measurement=measurement)
    training = explainer.explain(train, explained="true", split="train")
    return influence(curvature, queries.gradients, training.gradients)


def reference_scores(
    reference: "Reference",
    train: tuple[Inputs, Tensor],
    test: Inputs,
    damping: float,
    predicted: Callable[..., Tensor],
    *,
    measured: "Reference | None" = None,
) -> Tensor:
    """Return influence [M, N] by per-example gradients and an explicit inverse; ``predicted(outputs)`` is explained.

    ``measured`` is the same model with what is explained as its loss, where that is not the loss.
    """
    inputs, targets = train
    curvature = torch.zeros(reference.size, reference.size, dtype=torch.float64)
    for row in rows(inputs):
        for target, weight in reference.terms(reference.outputs(row)):
            gradient = reference.gradient(row, target)
            curvature += weight * torch.outer(gradient, gradient) / len(targets)
    training = [reference.gradient(row, target[None]) for row, target in zip(rows(inputs), targets, strict=True)]
    queries = [(measured or reference).gradient(row, predicted(reference.outputs(row))) for row in rows(test)]
    inverse = torch.linalg.inv(curvature + damping * torch.eye(reference.size, dtype=torch.float64))
    return torch.stack(queries) @ inverse @ torch.stack(training).T


class Reference:
    """A model in float64 with its loss of one example, and the terms of its Fisher: targets [1, ...] with weights.

    ``loss(outputs [1, ...], target [1, ...])`` is a number; ``terms(outputs)`` lists what the expectation is over.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        terms: Callable[[Tensor], Iterable[tuple[Tensor, float]]],
    ) -> None:
        self.model, self.loss, self.terms = model, loss, terms
        self.parameters = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
        self.size = sum(each.numel() for each in self.parameters.values())
        assert self.size <= LARGEST

    def outputs(self, row: Inputs) -> Tensor:
        """Return the outputs [1, ...] of one example."""
        return self._outputs(self.parameters, row)

    def gradient(self, row: Inputs, target: Tensor) -> Tensor:
        """Return the gradient [P] of the loss of one example."""
        found = grad(lambda parameters: self.loss(self._outputs(parameters, row), target))(self.parameters)
        return torch.cat([each.flatten() for each in found.values()])

    def _outputs(self, parameters: dict[str, Tensor], row: Inputs) -> Tensor:
        args, named = ((), row) if isinstance(row, dict) else (row if isinstance(row, tuple) else (row,), {})
        found = functional_call(self.model, parameters, args, named)
        return found if isinstance(found, Tensor) else found["logits"]


def rows(inputs: Inputs) -> Iterable[Inputs]:
    """Yield each example's inputs, with a first axis of 1."""
    if isinstance(inputs, Tensor):
        return (inputs[row : row + 1] for row in range(len(inputs)))
    if isinstance(inputs, dict):
        return (dict(zip(inputs, row, strict=True)) for row in rows(tuple(inputs.values())))
    return (tuple(value[row : row + 1] for value in inputs) for row in range(len(inputs[0])))


def class_terms(outputs: Tensor) -> Iterable[tuple[Tensor, float]]:
    """Yield every class with its probability, for scores of classes [1, C]: the Fisher of a classifier."""
    for label, weight in enumerate(outputs.detach().softmax(dim=1)[0].tolist()):
        yield torch.tensor([label]), weight


def assert_agree(found: Tensor, expected: Tensor) -> None:
    """Compare scores relative to the largest."""
    assert expected.abs().max() > 0
    assert float((found - expected).abs().max() / expected.abs().max()) < AGREEMENT

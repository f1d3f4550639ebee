"""Linear regression, where everything is known: refitting in closed form, and signs of what is measured.

N training examples, D features with a constant 1. Objective: mean of |y - x theta|^2 / (2 v) + lambda / 2 |theta|^2.
"""

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import JOINT, Curvature, DenseBasis, KroneckerBasis, LayerCurvature, side_by_side
from relatif.pipeline.curvature.exact import fisher_strips, joint_eigen, joint_matrix, strips_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.kronecker import eigenbasis, kronecker_spectrum, kronecker_sums
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.explainer import Explainer

torch.set_num_threads(1)

ROWS, FEATURES, VARIANCE, DECAY = 40, 4, 0.3, 0.05
CLOSED_FORM = 1e-8
"""Relative: what refitting in closed form has to agree to."""


class Problem:
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.inputs = torch.randn(ROWS + 3, FEATURES, generator=generator, dtype=torch.float64)
        noise = torch.randn(ROWS + 3, generator=generator, dtype=torch.float64)
        self.targets = self.inputs @ torch.arange(1.0, FEATURES + 1).double() + noise
        self.folded = torch.cat([self.inputs, torch.ones(ROWS + 3, 1).double()], dim=1)
        self.theta = self.fit(torch.ones(ROWS).double())
        self.model = nn.Linear(FEATURES, 1).double()
        with torch.no_grad():
            self.model.weight.copy_(self.theta[None, :-1])
            self.model.bias.copy_(self.theta[-1:])
        self.subject = CoveredModel(self.model, coverage(self.model), Gaussian(1, VARIANCE), Fisher())
        self.train = Examples(self.inputs[:ROWS], self.targets[:ROWS], 0)
        self.test = Examples(self.inputs[ROWS:], self.targets[ROWS:], 0)

    def hessian(self, weights: Tensor) -> Tensor:
        rows = self.folded[:ROWS]
        return (rows.T * weights) @ rows / (ROWS * VARIANCE) + DECAY * torch.eye(FEATURES + 1).double()

    def fit(self, weights: Tensor) -> Tensor:
        """Return the optimum with weights [N] of the examples, all of which stay over N."""
        right = (self.folded[:ROWS].T * weights) @ self.targets[:ROWS] / (ROWS * VARIANCE)
        return torch.linalg.solve(self.hessian(weights), right)

    def explainer(self, method: str) -> Explainer:
        if method == "exact":
            sums = joint_matrix(
                self.subject.coverage, fisher_strips(self.subject, self.train, strips_of(self.subject.coverage))
            )
            values, vectors = joint_eigen(sums / ROWS)
            layers = {JOINT: LayerCurvature(DenseBasis(vectors), values[None])}
        else:
            sums = kronecker_sums(self.subject, self.train).layers[""]
            moments = (sums.output_moment, sums.input_moment)
            (outputs, left), (inputs, right) = (eigenbasis(moment, ROWS) for moment in moments)
            layers = {"": LayerCurvature(KroneckerBasis(left, right), kronecker_spectrum(outputs, inputs))}
        task = None
        return Explainer(task, self.subject, Curvature(layers, DECAY), Worker(), numerators_are_solved=True)  # type: ignore[arg-type]


PROBLEM = Problem()


def solved(explainer: Explainer, gradients) -> Tensor:
    found = explainer.curvature.solve(gradients)
    return torch.cat([values.flatten(1) for values in found.values()], dim=1)


@pytest.mark.parametrize("method", ["exact", "kfac"])
def test_predicted_changes_over_one_minus_leverage_are_those_of_refitting(method: str) -> None:
    explainer = PROBLEM.explainer(method)
    found = explainer.explain(PROBLEM.train, explained="true", split="train")
    # A constant input and one output: Kronecker factors are exact, too.
    change = solved(explainer, found.gradients) / ROWS
    inverse = torch.linalg.inv(PROBLEM.hessian(torch.ones(ROWS).double()))
    rows = PROBLEM.folded[:ROWS]
    leverage = ((rows @ inverse) * rows).sum(dim=1) / (ROWS * VARIANCE)
    for row in range(ROWS):
        weights = torch.ones(ROWS).double()
        weights[row] = 0
        expected = PROBLEM.fit(weights) - PROBLEM.theta
        apart = change[row] / (1 - leverage[row]) - expected
        assert float(apart.norm() / expected.norm()) < CLOSED_FORM


@pytest.mark.parametrize(("measurement", "explained"), [("loss", "true"), ("output", "predicted")])
def test_more_weight_on_a_helpful_example_lowers_the_loss_and_raises_the_output(
    measurement: str, explained: str
) -> None:
    explainer = PROBLEM.explainer("exact")
    queries = explainer.explain(PROBLEM.test, explained=explained, split="test", measurement=measurement)
    training = explainer.explain(PROBLEM.train, explained="true", split="train")
    scores = side_by_side(queries.gradients).dense().flatten(1) @ solved(explainer, training.gradients).T
    tests, targets = PROBLEM.folded[ROWS:], PROBLEM.targets[ROWS:]
    step = 1e-5
    for row in range(ROWS):
        weights = torch.ones(ROWS).double()
        weights[row] += step
        before, after = tests @ PROBLEM.theta, tests @ PROBLEM.fit(weights)
        lowered = (before - targets).square() - (after - targets).square()
        gained = lowered / (2 * VARIANCE) if measurement == "loss" else after - before
        # Another weight by step changes the optimum by step / N.
        torch.testing.assert_close(scores[:, row] * step / ROWS, gained, rtol=1e-3, atol=1e-12)


def test_tables_have_what_a_regression_says() -> None:
    columns = (
        PROBLEM.explainer("exact")
        .explain(PROBLEM.test, explained="predicted", split="test", measurement="output")
        .columns
    )
    assert "label" not in columns
    torch.testing.assert_close(columns["prediction"][:, 0], PROBLEM.folded[ROWS:] @ PROBLEM.theta)
    assert torch.equal(columns["target"][:, 0], PROBLEM.targets[ROWS:])

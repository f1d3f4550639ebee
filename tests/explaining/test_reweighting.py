"""Scores of every measurement against training anew with another weight of an example: signs and sizes.

N training examples, M test inputs, P parameters. Models are linear, so that training is convex and the Fisher is the
Hessian; the objective is the mean of the weighted losses + lambda / 2 |theta|^2, minimized by Newton's method.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian
from torch.nn import functional

from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from tests.support.example_scores import pipeline_scores

torch.set_num_threads(1)

TRAIN, TESTS, FEATURES, CLASSES, PLACES = 9, 3, 2, 3, 2
SIZE = FEATURES * CLASSES + CLASSES
DECAY, VARIANCE, IGNORED = 0.1, 0.4, -100

STEP = 2e-2
"""Of a weight. Differences of two steps are extrapolated, so that what is left is of fourth order."""

RELATIVE = 1e-6
"""Of a measurement's largest change."""

OWN = f"{__name__}:spread"


def spread(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return how far the largest output is above the mean, as a user may measure it."""
    del targets
    flat = outputs.flatten(1)
    return flat.logsumexp(dim=1) - flat.mean(dim=1)


def entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of cross-entropies of each example, for outputs [N, ..., C] and classes [N, ...]."""
    each = functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return each.reshape(len(outputs), -1).sum(dim=1)


def logit(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the targets' outputs, summed over the places of an example."""
    return outputs.gather(-1, targets[..., None]).flatten(1).sum(dim=1)


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the targets' log-odds, summed over the places of an example."""
    p = outputs.softmax(dim=-1).gather(-1, targets[..., None])
    return (p / (1 - p)).log().flatten(1).sum(dim=1)


def binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(targets * outputs.sigmoid().log() + (1 - targets) * (1 - outputs.sigmoid()).log()).sum(dim=1)


def log_odds(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((2 * targets - 1) * (outputs.sigmoid() / (1 - outputs.sigmoid())).log()).sum(dim=1)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(dim=1) / (2 * VARIANCE)


def labels(*shape: int) -> Tensor:
    return torch.randint(0, CLASSES, (TRAIN + TESTS, *shape))


def there() -> Tensor:
    return (labels(CLASSES) > 0).double()


Function = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A likelihood with its loss, predictions and what rises, written out; ``shape`` are the places of an example."""

    likelihood: Likelihood
    loss: Function
    targets: Callable[[], Tensor]
    predicted: Callable[[Tensor], Tensor]
    raised: dict[str, Function]
    shape: tuple[int, ...] = ()


OF_CLASSES = {"logit": logit, "margin": margin, OWN: spread}
CASES = {
    "classes": Case(Categorical(CLASSES), entropy, labels, lambda z: z.argmax(-1), OF_CLASSES),
    "labels": Case(
        Bernoulli(CLASSES),
        binary,
        there,
        lambda z: (z > 0).double(),
        {"logit": log_odds, "margin": log_odds, OWN: spread},
    ),
    "numbers": Case(
        Gaussian(CLASSES, VARIANCE),
        squares,
        lambda: torch.randn(TRAIN + TESTS, CLASSES, dtype=torch.float64),
        lambda z: z,
        {"output": lambda z, _: z.sum(dim=1), OWN: spread},
    ),
    "tokens": Case(
        TokenCategorical(CLASSES, IGNORED),
        entropy,
        lambda: labels(PLACES),
        lambda z: z.argmax(-1),
        OF_CLASSES,
        (PLACES,),
    ),
    "pixels": Case(
        DenseCategorical(CLASSES, IGNORED),
        entropy,
        lambda: labels(PLACES, 2),
        lambda z: z.argmax(-1),
        OF_CLASSES,
        (PLACES, 2),
    ),
}


class Linear(nn.Module):
    """Outputs [N, ..., C] that are linear in the inputs [N, ..., F]; with ``pixels`` the classes stand first."""

    def __init__(self, *, pixels: bool) -> None:
        super().__init__()
        self.layer, self.pixels = nn.Linear(FEATURES, CLASSES).double(), pixels

    def forward(self, inputs: Tensor) -> Tensor:
        sent = self.layer(inputs)
        return sent.movedim(-1, 1) if self.pixels else sent


class Problem:
    """A model at the optimum of its examples."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(len(name))
        self.case = CASES[name]
        self.model = Linear(pixels=name == "pixels")
        self.inputs = torch.randn(TRAIN + TESTS, *self.case.shape, FEATURES, dtype=torch.float64)
        self.targets = self.case.targets()
        if self.targets.ndim == 2 and name == "tokens":
            self.targets[1, 0] = IGNORED
        self.shapes = {key: each.shape for key, each in self.model.named_parameters()}
        self.theta = self.trained(torch.ones(TRAIN, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64))
        self.model.load_state_dict(self.parameters(self.theta))

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split([shape.numel() for shape in self.shapes.values()])
        return {key: part.reshape(shape) for (key, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def outputs(self, theta: Tensor, rows: slice) -> Tensor:
        """Return the outputs with classes last."""
        found = functional_call(self.model, self.parameters(theta), (self.inputs[rows],))
        return found.movedim(1, -1) if self.model.pixels else found

    def trained(self, weights: Tensor, theta: Tensor) -> Tensor:
        """Return the optimum with these weights of the examples, [N], sought from ``theta`` on."""
        rows = slice(0, TRAIN)

        def objective(theta: Tensor) -> Tensor:
            losses = self.case.loss(self.outputs(theta, rows), self.targets[rows])
            return (weights * losses).mean() + DECAY / 2 * theta.square().sum()

        for _ in range(30):
            step = torch.linalg.solve(hessian(objective)(theta), grad(objective)(theta))
            theta = theta - step
            if step.norm() < 1e-14:
                break
        assert grad(objective)(theta).norm() < 1e-13
        return theta

    def measured(self, theta: Tensor, function: Function) -> Tensor:
        """Return a function of the test inputs' outputs and of what is predicted at the optimum, [M]."""
        rows = slice(TRAIN, None)
        return function(self.outputs(theta, rows), self.case.predicted(self.outputs(self.theta, rows)))

    def moved(self, example: int) -> list[tuple[float, Tensor, Tensor]]:
        """Return the optima with more and with less weight on an example, by steps of two sizes."""
        found = []
        for step in (STEP, STEP / 2):
            more, less = torch.ones(2, TRAIN, dtype=torch.float64)
            more[example] += step
            less[example] -= step
            found.append((step, self.trained(more, self.theta), self.trained(less, self.theta)))
        return found

    def gained(self, function: Function, moved: list[tuple[float, Tensor, Tensor]]) -> Tensor:
        """Return how fast a function grows with an example's weight, [M]."""
        of_steps = [
            (self.measured(more, function) - self.measured(less, function)) / (2 * step) for step, more, less in moved
        ]
        return (4 * of_steps[1] - of_steps[0]) / 3


@pytest.mark.parametrize("name", CASES)
def test_scores_are_what_another_weight_changes(name: str) -> None:
    problem = Problem(name)
    train = Examples(problem.inputs[:TRAIN], problem.targets[:TRAIN], 0)
    test = Examples(problem.inputs[TRAIN:], problem.targets[TRAIN:], 0)
    # A positive score: more weight lowers the loss, and raises everything else.
    lowered = {} if name == "numbers" else {"loss": lambda z, y: -problem.case.loss(z, y)}
    moved = [problem.moved(example) for example in range(TRAIN)]
    for measurement, function in (lowered | problem.case.raised).items():
        scores = pipeline_scores(problem.model, problem.case.likelihood, train, test, DECAY, measurement=measurement)
        expected = torch.stack([problem.gained(function, each) for each in moved], dim=1)
        apart = float((scores / TRAIN - expected).abs().max() / expected.abs().max())
        assert apart < RELATIVE, (measurement, apart)
        assert float(expected.min()) < 0 < float(expected.max())

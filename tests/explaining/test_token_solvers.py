"""Iterative solutions for sequences, to their end, against an explicit inverse of the Fisher written out.

N training examples, M test inputs, P parameters, T tokens, V words. Draws depend on an example's row alone, so that the
sampled Fisher is one matrix, which both solvers and the inverse are of.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import Curvature, LayerCurvature, by_layer, side_by_side
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher, fisher_terms
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.products import fisher_products
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.solver import Solver
from relatif.schemas.config import CurvatureConfig
from tests.support.rows import ready

torch.set_num_threads(1)

TRAIN, TESTS, STEPS, WORDS, WIDTH, DAMPING, IGNORED = 12, 3, 3, 4, 3, 1.0, -100
DEPTH = 150

ROUNDING = 1e-9
"""Relative: what is missing after DEPTH steps has shrunk below that, by 1 - lambda / scale < 0.85 in each."""


class Next(nn.Module):
    """Scores of the next word from the words so far."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids).cumsum(dim=1).tanh())


@dataclass(frozen=True)
class HeldProducts:
    """Products with the Fisher of examples that are held: a run of rows is all of them, or one half."""

    subject: CoveredModel
    examples: Examples
    run_count: int

    def product(self, vectors: Tensor) -> Tensor:
        """Return F v for vectors [R, P]."""
        return self._of(vectors, self.examples)

    def batch_product(self, vectors: Tensor, runs: list[int]) -> Tensor:
        """Return F v over the rows of some runs, which are of equal length."""
        each = len(self.examples) // self.run_count
        parts = [self._of(vectors, self.examples.rows(run * each, (run + 1) * each)) for run in runs]
        return sum(parts, torch.zeros_like(vectors)) / len(runs)

    def _of(self, vectors: Tensor, examples: Examples) -> Tensor:
        found = fisher_products(self.subject, examples, by_layer(vectors, self.subject.coverage.blocks))
        return torch.cat([values.flatten(1) for values in found.values()], dim=1) / len(examples)


@dataclass(frozen=True)
class Problem:
    products: HeldProducts
    explainer: Explainer
    gradients: Tensor
    inverse: Tensor

    def solver(self, runs: int = 1, **settings: Any) -> Solver:
        config = CurvatureConfig(damping=DAMPING, lissa_batch_size=64, **settings)
        products: Any = HeldProducts(self.products.subject, self.products.examples, runs)
        return Solver(config, self.explainer, products)


@pytest.fixture(scope="module", params=["exact", "sampled"])
def problem(request: pytest.FixtureRequest) -> Problem:
    torch.manual_seed(0)
    model, ids = ready(Next()), torch.randint(0, WORDS, (TRAIN + TESTS, STEPS))
    targets = ids.clone()
    targets[2, 2:] = IGNORED
    likelihood = TokenCategorical(WORDS, IGNORED, shift=1)
    subject = CoveredModel(model, coverage(model), likelihood, Fisher(request.param, samples=2, seed=3))
    train, test = Examples(ids[:TRAIN], targets[:TRAIN], 0), Examples(ids[TRAIN:], targets[TRAIN:], 0)
    shapes = subject.coverage.blocks
    zero = {name: LayerCurvature(None, torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    explainer = Explainer(None, subject, Curvature(zero, DAMPING), Worker(), numerators_are_solved=True)  # type: ignore[arg-type]
    explained = explainer.explain(test, explained="predicted", split="test", measurement="margin")
    gradients = side_by_side(explained.gradients).dense().flatten(1)
    matrix = dense_fisher(subject, train)
    inverse = torch.linalg.inv(matrix + DAMPING * torch.eye(len(matrix), dtype=torch.float64))
    return Problem(HeldProducts(subject, train, 1), explainer, gradients, inverse)


def dense_fisher(subject: CoveredModel, train: Examples) -> Tensor:
    """Return the mean over examples of the sum over terms of ``weight g g'``, by one backward pass for each."""
    outputs = subject.model(train.inputs)
    places = list(subject.coverage.places)
    parameters = dict(subject.model.named_parameters())
    total = torch.zeros((), dtype=torch.float64)
    if subject.fisher.kind == "exact":
        drawn = [
            [(target, float(p)) for target, p in every_word(outputs[row], train.targets[row])] for row in range(TRAIN)
        ]
    else:
        terms = list(fisher_terms(subject.fisher, subject.likelihood, outputs, train.targets, first_index=0))
        drawn = [[(labels[row], float(weights[row])) for labels, weights in terms] for row in range(TRAIN)]
    for row, targets in enumerate(drawn):
        for target, weight in targets:
            loss = nn.functional.cross_entropy(outputs[row, :-1], target[1:], ignore_index=IGNORED, reduction="sum")
            found = torch.autograd.grad(loss, [parameters[name] for name in places], retain_graph=True)
            g = in_blocks(subject, dict(zip(places, found, strict=True)))
            total = total + weight * torch.outer(g, g) / TRAIN
    return total


def every_word(outputs: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return one word at one token that has a target, with its probability at the token before."""
    found = []
    for token in range(1, STEPS):
        if target[token] != IGNORED:
            alone = torch.full_like(target, IGNORED)
            shares = outputs.detach()[token - 1].softmax(dim=0)
            found += [(alone.index_fill(0, torch.tensor(token), word), shares[word]) for word in range(WORDS)]
    return found


def in_blocks(subject: CoveredModel, gradients: dict[str, Tensor]) -> Tensor:
    """Return parameters' gradients in the order of the blocks, [P]: the transpose of how values are read off blocks."""
    blocks = {
        name: torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        for name, shape in subject.coverage.blocks.items()
    }
    values = subject.coverage.parameter_values(blocks)
    dot = sum((values[name] * gradient).sum() for name, gradient in gradients.items())
    return torch.cat([each.flatten() for each in torch.autograd.grad(dot, list(blocks.values()))])  # type: ignore[arg-type]


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm(dim=1).max() / expected.norm(dim=1).min())


def test_lissa_ends_at_the_explicit_inverse(problem: Problem) -> None:
    found = problem.solver(method="lissa", lissa_depth=DEPTH, lissa_tolerance=0.01).solve(problem.gradients)

    # Every step takes the whole training set, so what is missing shrinks by 1 - lambda / scale in each.
    assert apart(found.values, problem.gradients @ problem.inverse) < ROUNDING
    assert float(found.residuals.max()) < ROUNDING
    short = problem.solver(method="lissa", lissa_depth=3, lissa_tolerance=0.99).solve(problem.gradients)
    assert apart(short.values, problem.gradients @ problem.inverse) > 0.01


def test_lissa_by_halves_of_the_training_set_scatters_about_it(problem: Problem) -> None:
    solver = problem.solver(runs=2, method="lissa", lissa_depth=40, lissa_repeats=2, lissa_tolerance=0.5)

    found = solver.solve(problem.gradients)

    expected = problem.gradients @ problem.inverse
    # The stored residual is what it is away from the solution, and bounds it by 1 / lambda.
    assert ROUNDING < apart(found.values, expected) < 0.2
    bound = found.residuals * problem.gradients.norm(dim=1) / DAMPING
    assert bool(((found.values - expected).norm(dim=1) <= bound).all())


def test_conjugate_gradients_end_there_too(problem: Problem) -> None:
    found = problem.solver(method="cg", cg_tolerance=1e-10).solve(problem.gradients)

    assert apart(found.values, problem.gradients @ problem.inverse) < 1e-8

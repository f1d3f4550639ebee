"""Curvatures of small networks under every likelihood, against Jacobians and second moments that are written down.

N examples, P parameters, D numbers of an example's outputs. The Fisher is ``sum_n J_n' M_n J_n`` with J_n [D, P] by
torch.func and M_n [D, D] the second moment of the loss's gradient at the outputs, from its formula.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import KroneckerBasis, by_layer
from relatif.pipeline.curvature.exact import fisher_strips, joint_matrix, parameter_places, strips_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.kronecker import kronecker_sums, spectrum_sums
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.products import fisher_products

torch.set_num_threads(1)

ROWS, INPUTS, WIDTH, CLASSES, PLACES = 7, 3, 4, 3, 4
EXACT = 1e-12
VARIANCE, WEIGHTS, SMOOTHING = 0.4, (1.0, 2.0, 0.5), 0.2


def covariance(p: Tensor) -> Tensor:
    return torch.diag(p) - torch.outer(p, p)


def of_numbers(outputs: Tensor, target: Tensor) -> Tensor:
    return torch.diag((~target.isnan()).double()) / VARIANCE


def of_labels(outputs: Tensor, target: Tensor) -> Tensor:
    return torch.diag(outputs.sigmoid() * (1 - outputs.sigmoid()))


def of_weighted(outputs: Tensor, target: Tensor) -> Tensor:
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    weight = (1 - SMOOTHING) * weights[target] + SMOOTHING * weights.mean()
    return weight * covariance(outputs.softmax(dim=0))


def of_tokens(outputs: Tensor, target: Tensor) -> Tensor:
    return torch.block_diag(
        *(covariance(row.softmax(dim=0)) * (label >= 0) for row, label in zip(outputs, target, strict=True))
    )


def of_pixels(outputs: Tensor, target: Tensor) -> Tensor:
    rows = of_tokens(outputs.flatten(1).T, target.flatten())
    order = torch.arange(outputs.numel()).reshape(CLASSES, -1).T.flatten().argsort()
    return rows[order][:, order]


@dataclass(frozen=True)
class Case:
    likelihood: Likelihood
    moment: Callable[[Tensor, Tensor], Tensor]
    shape: tuple[int, ...]
    target: Callable[[], Tensor]

    def model(self) -> nn.Module:
        torch.manual_seed(1)
        if len(self.shape) == 3:
            return nn.Sequential(nn.Conv2d(INPUTS, WIDTH, 1), nn.Tanh(), nn.Conv2d(WIDTH, CLASSES, 1)).double()
        return nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)).double()


def words(*shape: int) -> Tensor:
    found = torch.randint(0, CLASSES, (ROWS, *shape))
    return found.masked_fill(torch.rand(found.shape) < 0.2, -100)


def some_numbers() -> Tensor:
    found = torch.randn(ROWS, CLASSES, dtype=torch.float64)
    found[1, 2] = torch.nan
    return found


CASES = {
    "numbers": Case(Gaussian(CLASSES, VARIANCE), of_numbers, (INPUTS,), some_numbers),
    "labels": Case(Bernoulli(CLASSES), of_labels, (INPUTS,), lambda: torch.randint(0, 2, (ROWS, CLASSES)).double()),
    "weighted": Case(
        Categorical(CLASSES, class_weights=WEIGHTS, label_smoothing=SMOOTHING),
        of_weighted,
        (INPUTS,),
        lambda: torch.arange(ROWS) % CLASSES,
    ),
    "tokens": Case(TokenCategorical(CLASSES), of_tokens, (PLACES, INPUTS), lambda: words(PLACES)),
    "pixels": Case(DenseCategorical(CLASSES), of_pixels, (INPUTS, 2, 2), lambda: words(2, 2)),
}


@pytest.fixture(scope="module", params=CASES)
def problem(request: pytest.FixtureRequest) -> tuple[CoveredModel, Examples, Tensor]:
    """A network with its examples, and the Fisher [P, P] in the order of the blocks, summed over examples."""
    case = CASES[request.param]
    model = case.model()
    torch.manual_seed(2)
    examples = Examples(torch.randn(ROWS, *case.shape, dtype=torch.float64), case.target(), 0)
    subject = CoveredModel(model, coverage(model), case.likelihood, Fisher())
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    places = torch.cat([parameter_places(subject.coverage)[name].flatten() for name in parameters])
    total = torch.zeros(len(places), len(places), dtype=torch.float64)
    for row in range(ROWS):
        one = examples.inputs[row : row + 1]
        jacobians = jacrev(lambda values, x=one: functional_call(model, values, (x,))[0].flatten())(parameters)
        jacobian = torch.cat([each.flatten(1) for each in jacobians.values()], dim=1)
        total += jacobian.T @ case.moment(model(one)[0].detach(), examples.targets[row]) @ jacobian
    order = places.argsort()
    return subject, examples, total[order][:, order]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


def test_the_exact_fisher_is_the_definition(problem) -> None:
    subject, examples, expected = problem
    lower = joint_matrix(subject.coverage, fisher_strips(subject, examples, strips_of(subject.coverage)))
    close(lower.tril(), expected.tril())


def test_products_of_iterative_solvers_are_those_with_it(problem) -> None:
    subject, examples, expected = problem
    vectors = torch.randn(2, len(expected), dtype=torch.float64)
    found = fisher_products(subject, examples, by_layer(vectors, subject.coverage.blocks))
    close(torch.cat([values.flatten(1) for values in found.values()], dim=1), vectors @ expected)


def test_ekfac_measures_its_diagonal_in_the_bases(problem) -> None:
    subject, examples, expected = problem
    shapes = subject.coverage.blocks
    bases = {
        name: KroneckerBasis(*(torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0] for size in shape))
        for name, shape in shapes.items()
    }
    found = spectrum_sums(subject, examples, bases).layers
    start = 0
    for name, (outputs, inputs) in shapes.items():
        block = expected[start : start + outputs * inputs, start : start + outputs * inputs]
        basis = torch.kron(bases[name].output, bases[name].input)
        close(found[name], (basis.T @ block @ basis).diagonal().reshape(outputs, inputs))
        start += outputs * inputs


def test_kfacs_output_factor_is_the_sum_of_second_moments(problem) -> None:
    """Of the last layer, whose outputs are the model's: at every place its own block."""
    subject, examples, _ = problem
    case = next(each for each in CASES.values() if each.likelihood == subject.likelihood)
    expected = torch.zeros(CLASSES, CLASSES, dtype=torch.float64)
    for row in range(ROWS):
        outputs = subject.model(examples.inputs[row : row + 1])[0].detach()
        whole = case.moment(outputs, examples.targets[row])
        if outputs.ndim == 3:  # from classes first to places first
            order = torch.arange(outputs.numel()).reshape(CLASSES, -1).T.flatten()
            whole = whole[order][:, order]
        for place in range(0, len(whole), CLASSES):
            expected += whole[place : place + CLASSES, place : place + CLASSES]
    close(kronecker_sums(subject, examples).layers["2"].output_moment, expected)

"""What is differentiated is what the value says: its model, its coverage, its likelihood and its Fisher.

N examples, D outputs, I inputs (bias folded). Targets of the likelihood here are vectors, so that nothing can take them
for labels: with unit variance the loss is half the squared distance, its gradient is ``outputs - target``, and the
gradient's second moment over the model's targets is the identity. Of a linear layer the Fisher is then exactly
``I x sum_n a_n a_n'``.
"""

from collections.abc import Collection, Iterator
from dataclasses import FrozenInstanceError, dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import by_layer
from relatif.pipeline.curvature.exact import fisher_strips, hessian_strips, joint_matrix, strips_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.kronecker import kronecker_sums
from relatif.pipeline.curvature.likelihood import Term
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.products import fisher_products

torch.set_num_threads(1)

ROWS, INPUTS, OUTPUTS = 12, 4, 3
EXACT = 1e-12
"""Relative to the largest entry: float64 sums of a dozen terms in another order."""


@dataclass(frozen=True)
class Gaussian:
    """Targets [N, D] are normal around the outputs, with unit variance."""

    classes: int | None = None

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(dim=1) / 2

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs - targets

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        for unit in torch.eye(outputs.shape[1], dtype=outputs.dtype):
            yield outputs - unit, outputs.new_ones(len(outputs))

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        return outputs - uniform[:, None]

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        return targets if choice == "true" else outputs

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        return {}

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        return None

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Accept every choice."""


def regression() -> tuple[CoveredModel, Examples]:
    """Return a linear model of vectors, and examples."""
    torch.manual_seed(4)
    model = nn.Linear(INPUTS, OUTPUTS).double()
    inputs, targets = (torch.randn(ROWS, width, dtype=torch.float64) for width in (INPUTS, OUTPUTS))
    return CoveredModel(model, coverage(model), Gaussian(), Fisher()), Examples(inputs, targets, 0)


def moment(examples: Examples) -> Tensor:
    folded = torch.cat([examples.inputs, torch.ones(ROWS, 1, dtype=torch.float64)], dim=1)
    return folded.T @ folded


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


@pytest.mark.parametrize("of_strips", [fisher_strips, hessian_strips])
def test_of_linear_regression_both_matrices_are_the_inputs_moment_for_each_output(of_strips) -> None:
    subject, examples = regression()
    found = joint_matrix(subject.coverage, of_strips(subject, examples, strips_of(subject.coverage)))
    assert_close(found.tril(), torch.kron(torch.eye(OUTPUTS, dtype=torch.float64), moment(examples)).tril())


def test_kronecker_factors_take_the_likelihoods_terms() -> None:
    subject, examples = regression()
    layer = kronecker_sums(subject, examples).layers[""]
    assert_close(layer.input_moment, moment(examples))
    assert_close(layer.output_moment, ROWS * torch.eye(OUTPUTS, dtype=torch.float64))


def test_products_are_those_with_the_inputs_moment() -> None:
    subject, examples = regression()
    vectors = torch.randn(2, OUTPUTS * (INPUTS + 1), dtype=torch.float64)
    found = fisher_products(subject, examples, by_layer(vectors, subject.coverage.blocks))[""]
    assert_close(found, vectors.unflatten(1, (OUTPUTS, INPUTS + 1)) @ moment(examples))


def test_the_empirical_fisher_takes_the_datas_targets() -> None:
    subject, examples = regression()
    errors = (subject.model(examples.inputs) - examples.targets).detach()
    layer = kronecker_sums(replace(subject, fisher=Fisher("empirical")), examples).layers[""]
    assert_close(layer.output_moment, errors.T @ errors)


def test_the_sampled_fisher_takes_targets_that_the_likelihood_draws() -> None:
    subject, examples = regression()
    found = [
        kronecker_sums(replace(subject, fisher=Fisher("sampled", samples=2, seed=seed)), examples).layers[""]
        for seed in (0, 0, 1)
    ]
    first, again, other = (layer.output_moment for layer in found)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Every drawn gradient here has equal entries, so their second moment has too.
    assert_close(first, first[0, 0].expand(OUTPUTS, OUTPUTS))
    assert 0 < float(first[0, 0]) < ROWS


def test_only_covered_layers_are_explained() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(INPUTS, OUTPUTS), nn.Tanh(), nn.Linear(OUTPUTS, OUTPUTS)).double()
    examples = regression()[1]
    subject = CoveredModel(model, coverage(model, ["2"]), Gaussian(), Fisher())
    whole = kronecker_sums(replace(subject, coverage=coverage(model)), examples).layers
    found = kronecker_sums(subject, examples).layers
    assert (list(found), list(whole)) == (["2"], ["0", "2"])
    assert torch.equal(found["2"].input_moment, whole["2"].input_moment)


def test_it_is_a_value_that_nobody_changes() -> None:
    subject, _ = regression()
    with pytest.raises(FrozenInstanceError):
        subject.fisher = Fisher("empirical")  # type: ignore[misc]

"""Changes of many pairs: those of each pair alone, refitting in closed form, and where there are none."""

import math

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import Curvature, KroneckerBasis, LayerCurvature
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.measurement import LOSS, measurement_of
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining import left_out
from relatif.pipeline.explaining import left_out_pairs as subject
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.left_out import corrected_change, output_gradients
from relatif.pipeline.explaining.left_out_pairs import Removal, corrected_changes, without_correction
from tests.explaining.test_left_out import DECAY, FEATURES, ROWS, HalfOfTheSquare, explainer

torch.set_num_threads(1)

SAME = 1e-10
"""Relative: the same float64 operations in another order."""


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eigen_form(model: nn.Module, likelihood: Likelihood) -> Explainer:
    """Return an explainer by a random Kronecker eigenbasis of every layer; one has a side without, one has none."""
    covered = CoveredModel(model, coverage(model), likelihood, Fisher())
    blocks = {}
    for number, (name, (rows, columns)) in enumerate(covered.coverage.blocks.items()):
        sides = [torch.linalg.qr(random(size, size, seed=number))[0] for size in (rows, columns)]
        bases = (KroneckerBasis(*sides), KroneckerBasis(sides[0], None), None)
        blocks[name] = LayerCurvature(bases[number], random(rows, columns, seed=9).square())
    return Explainer(None, covered, Curvature(blocks, DECAY), Worker())  # type: ignore[arg-type]


def one_by_one(made: Explainer, tests: Examples, trains: Examples, pairs: list[tuple[int, int]], removal: Removal):
    return [
        corrected_change(
            made,
            output_gradients(made, tests.rows(test, test + 1), removal.explained),
            output_gradients(made, trains.rows(train, train + 1), "true"),
            removal.measured,
            removal.count,
        )
        for test, train in pairs
    ]


def targets_of(likelihood: Likelihood, rows: int, seed: int) -> Tensor:
    values = random(rows, 3, seed=seed)
    match likelihood:
        case Categorical():
            return values.argmax(dim=1)
        case Bernoulli():
            return (values > 0).double()
    return values


PAIRS = [(2, 5), (0, 1), (2, 0), (1, 5), (0, 7), (2, 7), (0, 1)]


@pytest.mark.parametrize("bytes_at_once", [1, 1 << 26])
@pytest.mark.parametrize(
    ("likelihood", "explained"),
    [(Categorical(3), "predicted"), (Categorical(3), "true"), (Gaussian(3, 0.5), "true"), (Bernoulli(3), "true")],
    ids=["predicted", "true", "gaussian", "bernoulli"],
)
def test_pairs_are_those_of_each_alone(
    monkeypatch: pytest.MonkeyPatch, likelihood: Likelihood, explained: str, bytes_at_once: int
) -> None:
    monkeypatch.setattr(subject, "JACOBIANS_BYTES", bytes_at_once)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 3))
    made = eigen_form(network.double(), likelihood)
    trains, tests = (
        Examples(random(rows, 2, 5, seed=rows), targets_of(likelihood, rows, seed=rows + 1), 0) for rows in (8, 3)
    )
    removal = Removal(explained, measurement_of(LOSS, likelihood), 400)
    found = corrected_changes(made, tests, trains, PAIRS, removal)
    expected = one_by_one(made, tests, trains, PAIRS, removal)
    assert all(math.isfinite(value) and value != 0 for value in expected)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=SAME, atol=0)


def test_queries_outside_of_the_data_are_those_of_refitting_in_closed_form() -> None:
    inputs, targets = random(ROWS, FEATURES, seed=1), random(ROWS, 2, seed=2)
    folded, variance = torch.cat([inputs, torch.ones(ROWS, 1).double()], dim=1), 0.3

    def fit(weights: Tensor) -> Tensor:
        left = (folded.T * weights) @ folded / (ROWS * variance) + DECAY * torch.eye(FEATURES + 1).double()
        return torch.linalg.solve(left, (folded.T * weights) @ targets / (ROWS * variance))

    model, theta = nn.Linear(FEATURES, 2).double(), fit(torch.ones(ROWS).double())
    with torch.no_grad():
        model.weight.copy_(theta[:-1].T)
        model.bias.copy_(theta[-1])
    queries, wanted = random(4, FEATURES, seed=3), random(4, 2, seed=4)
    likelihood = Gaussian(2, variance)
    made, pairs = explainer(model, likelihood, Examples(inputs, targets, 0)), []
    expected = []
    for train in range(0, ROWS, 3):
        weights = torch.ones(ROWS).double()
        weights[train] = 0
        given = torch.cat([queries, torch.ones(4, 1).double()], dim=1)
        before, after = given @ theta, given @ fit(weights)
        losses = [(each - wanted).square().sum(dim=1) / (2 * variance) for each in (before, after)]
        pairs += [(test, train) for test in range(4)]
        expected.append(losses[1] - losses[0])
    removal = Removal("true", measurement_of(LOSS, likelihood), ROWS)
    found = corrected_changes(made, Examples(queries, wanted, 0), Examples(inputs, targets, 0), pairs, removal)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-8, atol=1e-14)


def test_there_is_none_where_a_pair_alone_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = random(ROWS, FEATURES, seed=1), random(ROWS, 2, seed=2)
    examples, pairs = Examples(inputs, targets, 0), [(0, 1), (0, 2), (3, 2)]
    measured = measurement_of(LOSS, Gaussian(2, 1.0))
    # Leverage: an example far from all others decides its own direction where few are counted.
    inputs[2] *= 100
    made = explainer(nn.Linear(FEATURES, 2).double(), Gaussian(2, 1.0), examples)
    few = Removal("true", measured, 4)
    found = corrected_changes(made, examples, examples, pairs, few)
    assert found.isnan().tolist() == [False, True, True]
    assert [math.isnan(each) for each in one_by_one(made, examples, examples, pairs, few)] == [False, True, True]

    class Once(Gaussian):
        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return HalfOfTheSquare.apply(outputs - targets).flatten(1).sum(dim=1)

    once = explainer(nn.Linear(FEATURES, 2).double(), Once(2, 1.0), examples)
    many = Removal("true", measured, ROWS)
    assert corrected_changes(once, examples, examples, pairs, many).isnan().all()

    assert corrected_changes(made, examples, examples, [], many).tolist() == []
    assert without_correction(made, examples) is None
    monkeypatch.setattr(left_out, "JACOBIAN_BYTES", 2 * 8 * 8 - 1)
    assert "found 1.19e-07 GiB for 2 numbers" in str(without_correction(made, examples))
    assert corrected_changes(made, examples, examples, pairs, many).isnan().all()


class OneNumber(nn.Module):
    """A network whose output for an example is a number without an axis of its own, or with one."""

    def __init__(self, *, own_axis: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.own_axis = (
            nn.Sequential(nn.Linear(FEATURES, 3), nn.Tanh(), nn.Linear(3, 1)).double(),
            own_axis,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.layers(inputs)
        return found if self.own_axis else found.squeeze(1)


def test_an_output_without_an_axis_of_its_own_is_one_with() -> None:
    tests, trains = (Examples(random(rows, FEATURES, seed=rows), random(rows, 1, seed=1), 0) for rows in (2, 5))
    found = []
    for own_axis in (True, False):
        made = eigen_form(OneNumber(own_axis=own_axis), Gaussian())
        removal = Removal("true", measurement_of(LOSS, Gaussian()), ROWS)
        found.append(corrected_changes(made, tests, trains, [(0, 1), (1, 4), (0, 3)], removal))
    assert bool(found[0].isfinite().all())
    torch.testing.assert_close(found[1], found[0], rtol=SAME, atol=0)

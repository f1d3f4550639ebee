"""What leaving an example out changes: refitting in closed form, its definition in matrices, and where it has none."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import JOINT, Curvature, DenseBasis, LayerCurvature
from relatif.pipeline.curvature.exact import fisher_strips, joint_eigen, joint_matrix, strips_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.measurement import LOSS, measurement_of
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining import left_out as subject
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.left_out import corrected_change, output_gradients, step_at_outputs

torch.set_num_threads(1)

ROWS, FEATURES, DECAY = 30, 3, 0.05


def data(outputs: int, *, classes: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(ROWS, FEATURES, generator=generator, dtype=torch.float64)
    if classes:
        return inputs, torch.randint(outputs, (ROWS,), generator=generator)
    return inputs, torch.randn(ROWS, outputs, generator=generator, dtype=torch.float64)


def explainer(model: nn.Module, likelihood: Likelihood, examples: Examples) -> Explainer:
    """Return an explainer by the exact Fisher."""
    covered = CoveredModel(model, coverage(model), likelihood, Fisher())
    sums = joint_matrix(covered.coverage, fisher_strips(covered, examples, strips_of(covered.coverage)))
    values, vectors = joint_eigen(sums / len(examples))
    curvature = Curvature({JOINT: LayerCurvature(DenseBasis(vectors), values[None])}, DECAY)
    return Explainer(None, covered, curvature, Worker())  # type: ignore[arg-type]


def change(made: Explainer, examples: Examples, test: int, train: int, measurement: str = LOSS) -> float:
    explained = output_gradients(made, examples.rows(test, test + 1), "true")
    left_out = output_gradients(made, examples.rows(train, train + 1), "true")
    return corrected_change(
        made, explained, left_out, measurement_of(measurement, made.subject.likelihood), len(examples)
    )


@pytest.mark.parametrize(("outputs", "measurement"), [(1, LOSS), (2, LOSS), (1, "output")])
def test_of_linear_regression_it_is_refitting_in_closed_form(outputs: int, measurement: str) -> None:
    inputs, targets = data(outputs, classes=False)
    folded, variance = torch.cat([inputs, torch.ones(ROWS, 1).double()], dim=1), 0.3

    def fit(weights: Tensor) -> Tensor:
        left = (folded.T * weights) @ folded / (ROWS * variance) + DECAY * torch.eye(FEATURES + 1).double()
        return torch.linalg.solve(left, (folded.T * weights) @ targets / (ROWS * variance))

    model = nn.Linear(FEATURES, outputs).double()
    theta = fit(torch.ones(ROWS).double())
    with torch.no_grad():
        model.weight.copy_(theta[:-1].T)
        model.bias.copy_(theta[-1])
    examples = Examples(inputs, targets, 0)
    made = explainer(model, Gaussian(outputs, variance), examples)
    for train in range(0, ROWS, 5):
        weights = torch.ones(ROWS).double()
        weights[train] = 0
        before, after = (folded[1] @ found for found in (theta, fit(weights)))
        losses = [(found - targets[1]).square().sum() / (2 * variance) for found in (before, after)]
        expected = losses[1] - losses[0] if measurement == LOSS else (before - after)[0]
        assert change(made, examples, 1, train, measurement) == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("classes", [2, 4])
def test_of_a_network_it_is_the_newton_step_of_what_is_left_in_dense_matrices(classes: int) -> None:
    """(H + lambda I - J'L J / n)^-1 J'd / n, inverted as it stands, and the loss where it leads the outputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, classes)).double()
    inputs, labels = data(classes, classes=True)
    names = [name for name, _ in model.named_parameters()]
    theta = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    shapes = [parameter.shape for parameter in model.parameters()]

    def outputs_of(flat: Tensor, row: int) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes])
        given = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return functional_call(model, given, (inputs[row : row + 1],))[0]

    def loss_at(outputs: Tensor, row: int) -> Tensor:
        return -outputs.log_softmax(dim=0)[labels[row]]

    jacobians = [jacrev(outputs_of)(theta, row) for row in range(ROWS)]
    found = [outputs_of(theta, row).detach() for row in range(ROWS)]
    curvatures = [hessian(loss_at)(found[row], row) for row in range(ROWS)]
    pairs = list(zip(jacobians, curvatures, strict=True))
    matrix = sum(jacobian.T @ curvature @ jacobian for jacobian, curvature in pairs) / ROWS
    damped = matrix + DECAY * torch.eye(len(theta)).double()
    examples = Examples(inputs, labels, 0)
    made = explainer(model, Categorical(classes), examples)
    for test, train in ((0, 3), (7, 7), (11, 29)):
        left = damped - jacobians[train].T @ curvatures[train] @ jacobians[train] / ROWS
        gradient = jacobians[train].T @ (found[train].softmax(dim=0) - nn.functional.one_hot(labels[train], classes))
        step = torch.linalg.inv(left) @ gradient / ROWS
        moved = found[test] + jacobians[test] @ step
        expected = float(loss_at(moved, test) - loss_at(found[test], test))
        assert change(made, examples, test, train) == pytest.approx(expected, rel=1e-9)


def test_of_two_classes_the_step_is_divided_by_one_less_the_leverage() -> None:
    """The leverage is p (1 - p) g'(H + lambda I)^-1 g / (1 - p)^2 / n for the label's probability p."""
    kernel, p, n = 3.0, 0.8, 20
    whole = torch.tensor([[kernel, -kernel], [-kernel, kernel]], dtype=torch.float64) / 4
    gradient = torch.tensor([p - 1, 1 - p], dtype=torch.float64)
    hessian_ = p * (1 - p) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    self_influence = float(gradient @ whole @ gradient)
    step = step_at_outputs(whole, gradient, hessian_, n)
    assert step is not None
    moved = whole @ step
    expected = whole @ gradient / n / (1 - p / (1 - p) * self_influence / n)
    torch.testing.assert_close(moved, expected, rtol=1e-12, atol=0)


def test_there_is_none_where_only_the_example_decides_a_direction() -> None:
    unit = torch.eye(2).double()
    gradient = torch.ones(2).double()
    assert step_at_outputs(10 * unit, gradient, unit, 11) is not None
    assert step_at_outputs(10 * unit, gradient, unit, 10) is None


class HalfOfTheSquare(torch.autograd.Function):
    """Has a backward pass that torch can't differentiate; it then takes the second derivative for 0."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.square() / 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, given: Tensor) -> Tensor:
        return given * ctx.saved_tensors[0]


def test_there_is_none_without_a_second_derivative_or_with_too_many_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once(Gaussian):
        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return HalfOfTheSquare.apply(outputs - targets).flatten(1).sum(dim=1)

    inputs, targets = data(2, classes=False)
    examples = Examples(inputs, targets, 0)
    model = nn.Linear(FEATURES, 2).double()
    assert math.isnan(change(explainer(model, Once(2, 1.0), examples), examples, 0, 1))
    made = explainer(model, Gaussian(2, 1.0), examples)
    assert math.isfinite(change(made, examples, 0, 1))
    monkeypatch.setattr(subject, "JACOBIAN_BYTES", 2 * 8 * 8 - 1)
    assert math.isnan(change(made, examples, 0, 1))

"""A model and tensors in, scores out: against dense references, for every curvature; what can't be right is refused."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import relatif
from relatif.pipeline.curvature.eigen import Curvature
from relatif.pipeline.explaining import fitting
from relatif.pipeline.explaining.fitting import Explanation, Fitted
from relatif.schemas.errors import ConfigurationError, DataError, ModelError
from tests.support.explained import MODELS, Explained, explained

torch.set_num_threads(1)

DAMPING = 1e-2
CLOSE = 1e-9
"""Relative to the largest: float64 products and explicit inverses of a few dozen parameters."""


def fitted(case: Explained, **settings: object) -> Fitted:
    inputs, labels = torch.from_numpy(case.problem.train_inputs), torch.as_tensor(case.problem.train_labels)
    return relatif.fit(case.model, relatif.Categorical(case.classes), inputs, labels, damping=DAMPING, **settings)


def explanation(case: Explained, made: Fitted) -> Explanation:
    inputs, labels = torch.from_numpy(case.problem.test_inputs), torch.as_tensor(case.problem.test_labels)
    return made.explain(inputs, labels, explained="true")


@pytest.mark.parametrize("rows", [7, 256])
@pytest.mark.parametrize("method", ["kfac", "ekfac", "exact"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_dense_curvatures(
    name: str, method: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "ROWS", rows)
    case = explained(name)
    made = fitted(case, method=method)
    found = explanation(case, made)
    expected = case.scores(case.inverse(method, made.explainer.curvature))
    for each in ("influence", "theta_relatif", "l_relatif", "negative_influence"):
        apart = np.abs(found.scores(each).numpy() - expected[each]).max()
        assert apart < CLOSE * np.abs(expected[each]).max(), each


def test_of_the_identity_influence_is_the_inner_product() -> None:
    case = explained("two layers")
    found = explanation(case, fitted(case, method="identity"))
    np.testing.assert_allclose(found.influence.numpy(), case.test @ case.train.T, rtol=0, atol=1e-9)


def test_the_first_examples_are_those_of_the_highest_scores_in_order() -> None:
    influence = torch.tensor([[1.0, 3.0, 3.0, 2.0], [4.0, 0.0, 4.0, 4.0]], dtype=torch.float64)
    found = Explanation(influence, {}, {})
    values, rows = found.top("influence", k=3)
    assert rows.tolist() == [[1, 2, 3], [0, 2, 3]]
    assert values.tolist() == [[3, 3, 2], [4, 4, 4]]
    with pytest.raises(ConfigurationError, match="k between 1 and 4 training examples, found 5"):
        found.top("influence", k=5)
    with pytest.raises(ConfigurationError, match="found 'nearest_neighbour'; choose one of them"):
        found.top("nearest_neighbour")


def test_predictions_are_explained_without_targets_and_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    inputs, labels = torch.randn(12, 3), torch.randint(2, (12,))
    made = relatif.fit(model, relatif.Categorical(2), inputs, labels, exclude=["2.bias"])
    found = made.explain(inputs[:5])
    assert found.influence.shape == (5, 12)
    predicted = model.eval()(inputs[:5]).argmax(dim=1)
    assert torch.equal(found.test["explained_label"], predicted)
    known = made.explain(inputs[:5], predicted, explained="true")
    torch.testing.assert_close(known.influence, found.influence)
    assert model[0].weight.dtype == torch.float32
    assert not model[0].bias.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(made.explainer.curvature.blocks) == {"0", "2"}


def test_a_regression_is_explained_by_its_output_and_needs_targets_for_its_loss() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(20, 3), torch.randn(20, 1)
    made = relatif.fit(nn.Linear(3, 1), relatif.Gaussian(1, 1.0), inputs, targets, method="exact", damping=0.1)
    with pytest.raises(ConfigurationError, match="expected targets, found none"):
        made.explain(inputs)
    folded = torch.cat([inputs, torch.ones(20, 1)], dim=1).double()
    curvature = folded.T @ folded / 20 + 0.1 * torch.eye(4).double()
    residuals = made.explainer.subject.model(inputs.double()).detach() - targets
    # The output rises by minus its slope times that of the loss.
    expected = -folded[:2] @ torch.linalg.inv(curvature) @ (folded * residuals).T
    found = made.explain(inputs[:2], targets[:2])
    torch.testing.assert_close(found.influence, expected)


def mixing(values: Tensor) -> Tensor:
    return values - values.mean(dim=0)


class Mixes(nn.Module):
    """Subtracts the batch's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(mixing(inputs))


def test_what_cannot_be_right_is_refused() -> None:
    inputs, labels = torch.randn(12, 3), torch.randint(2, (12,))
    likelihood = relatif.Categorical(2)
    with pytest.raises(ModelError, match="depend on that example alone"):
        relatif.fit(Mixes(), likelihood, inputs, labels)
    with pytest.raises(ConfigurationError, match=r"curvature\.method"):
        relatif.fit(nn.Linear(3, 2), likelihood, inputs, labels, method="hessian")
    with pytest.raises(ConfigurationError, match=r"curvature\.dampings"):
        relatif.fit(nn.Linear(3, 2), likelihood, inputs, labels, dampings=1.0)
    with pytest.raises(ConfigurationError, match=r"in eigen form .* found cg; choose one of these, or make a run"):
        relatif.fit(nn.Linear(3, 2), likelihood, inputs, labels, method="cg")
    with pytest.raises(ConfigurationError, match="expected training examples, found none"):
        relatif.fit(nn.Linear(3, 2), likelihood, inputs[:0], labels[:0])
    with pytest.raises(DataError, match="expected a target for each of 12 inputs, found 11"):
        relatif.fit(nn.Linear(3, 2), likelihood, inputs, labels[:11])
    with pytest.raises(ConfigurationError, match="class"):
        relatif.fit(nn.Linear(3, 2), likelihood, inputs, labels).explain(inputs, explained=2)


def test_it_fits_any_number_of_rows_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    case = explained("softmax regression")
    found: list[Curvature] = []
    for rows in (1, 5, 1000):
        monkeypatch.setattr(fitting, "ROWS", rows)
        found.append(fitted(case, method="exact").explainer.curvature)
    spectra = [each.blocks["joint"].spectrum for each in found]
    for spectrum in spectra[1:]:
        torch.testing.assert_close(spectrum, spectra[0], rtol=0, atol=1e-12)


def test_a_training_example_all_of_whose_targets_are_left_out_influences_nothing() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(9, 4, 3), torch.randint(5, (9, 4))
    targets[6] = -100
    targets[2, 1:] = -100
    likelihood = relatif.TokenCategorical(5, ignore_index=-100)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5))
    found = relatif.fit(model, likelihood, inputs, targets, method="exact").explain(inputs[:3], targets[:3])
    for method in ("influence", "theta_relatif", "l_relatif"):
        scores = found.scores(method)
        assert scores.isfinite().all()
        assert (scores != 0).any(dim=0).tolist() == [row != 6 for row in range(9)]


class Scaled(nn.Module):
    """Multiplies its outputs by one number, a parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.scale = nn.Linear(3, 2), nn.Parameter(torch.tensor(0.7))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * self.head(inputs)


def test_a_parameter_may_be_one_number() -> None:
    torch.manual_seed(0)
    inputs, labels = torch.randn(12, 3), torch.randint(2, (12,))
    model = Scaled()
    made = relatif.fit(model, relatif.Categorical(2), inputs, labels, exclude=["head.*"], method="exact", damping=0.1)
    found = made.explain(inputs[:3], labels[:3], explained="true").influence
    outputs = model.head(inputs).double().detach()
    scale = model.scale.detach().double()
    probabilities = (scale * outputs).softmax(dim=1)
    # The slope of a label's loss is the expected output less its own.
    slopes = (probabilities * outputs).sum(dim=1, keepdim=True) - outputs
    gradients = slopes[torch.arange(12), labels]
    fisher = (probabilities * slopes.square()).sum(dim=1).mean()
    torch.testing.assert_close(found, torch.outer(gradients[:3], gradients) / (fisher + 0.1), rtol=1e-6, atol=0)


def test_numbers_may_be_left_out_of_targets() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(10, 3), torch.randn(10, 2)
    targets[0, 1] = targets[4] = torch.nan
    made = relatif.fit(nn.Linear(3, 2), relatif.Gaussian(2, 1.0), inputs, targets, method="exact")
    scores = made.explain(inputs[5:], targets[5:]).influence
    assert scores.isfinite().all()
    assert not scores[:, 4].any()


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([0, 1, 2]), torch.tensor([0, -1, 1]), torch.tensor([0.0, 1.0, 1.0]), torch.tensor([[0], [1], [1]])],
)
def test_labels_that_are_no_classes_are_refused(labels: Tensor) -> None:
    with pytest.raises(DataError, match="class numbers from 0 to 1"):
        relatif.fit(nn.Linear(3, 2), relatif.Categorical(2), torch.randn(3, 3), labels)

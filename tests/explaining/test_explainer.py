"""What an explainer says of examples: in the eigenbasis, or as gradients where numerators are solved for."""

import copy

import pytest
import torch

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.explainer import Explainer
from tests.support.curvatures import curvature_of
from tests.support.explained import Explained, explained
from tests.support.images import perceptron

torch.set_num_threads(1)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def explainer(case: Explained, *, solves: bool, device: str = "cpu") -> Explainer:
    curvature = curvature_of("kfac", case.model, case.problem.train_inputs, case.classes, 1e-2).to(device)
    model = copy.deepcopy(case.model).to(device)
    subject = CoveredModel(model, coverage(model), Categorical(case.classes), Fisher())
    return Explainer(perceptron(), subject, curvature, Worker(1, device), numerators_are_solved=solves)


def training(case: Explained, *, first: int = 0, device: str = "cpu") -> Examples:
    inputs, labels = torch.from_numpy(case.problem.train_inputs), torch.as_tensor(case.problem.train_labels)
    return Examples(inputs.to(device), labels.to(device), first)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solves", [False, True])
def test_gradients_are_rotated_unless_numerators_are_solved_for(solves: bool, device: str) -> None:
    case = explained("two layers")
    made = explainer(case, solves=solves, device=device)

    found = made.explain(training(case, device=device), explained="true", split="train")

    plain = torch.cat([gradient.dense().flatten(1) for gradient in found.gradients.values()], dim=1).cpu()
    rotated = made.curvature.rotate(found.gradients) if solves else found.gradients
    expected = torch.from_numpy(case.train)
    assert torch.allclose(plain, expected) is solves
    norms = torch.cat([gradient.dense().flatten(1) for gradient in rotated.values()], dim=1).norm(dim=1)
    torch.testing.assert_close(norms.cpu(), expected.norm(dim=1))
    torch.testing.assert_close(found.columns["gradient_norm"].cpu(), expected.norm(dim=1))


@pytest.mark.parametrize("solves", [False, True])
def test_columns_do_not_depend_on_it(solves: bool) -> None:
    case = explained("two layers")
    examples = training(case, first=7)

    columns = explainer(case, solves=solves).explain(examples, explained=1, split="train").columns

    assert columns["index"].tolist() == list(range(7, 7 + len(examples)))
    assert columns["explained_label"].tolist() == [1] * len(examples)
    assert columns["label"].tolist() == examples.targets.tolist()
    torch.testing.assert_close(columns["probability"], (-columns["loss"]).exp())

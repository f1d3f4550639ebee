"""What an explainer says of examples: in the eigenbasis, or as gradients where numerators are solved for."""

from dataclasses import replace

import pytest
import torch

from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.tasks.task import Task
from tests.support.curvatures import curvature_of
from tests.support.explained import Explained, explained
from tests.support.images import perceptron

torch.set_num_threads(1)


def explainer(case: Explained, *, solves: bool) -> Explainer:
    from relatif.pipeline.curvature.coverage import coverage
    from relatif.pipeline.curvature.fisher import Fisher
    from relatif.pipeline.curvature.model import CoveredModel
    from relatif.pipeline.tasks.task import cross_entropy

    curvature = curvature_of("kfac", case.model, case.problem.train_inputs, case.classes, 1e-2)
    task: Task = replace(perceptron(), loss=cross_entropy)
    subject = CoveredModel(case.model, coverage(case.model), cross_entropy, Fisher(case.classes))
    return Explainer(task, subject, curvature, "cpu", solves=solves)


@pytest.mark.parametrize("solves", [False, True])
def test_gradients_are_rotated_unless_numerators_are_solved_for(solves: bool) -> None:
    case = explained("two layers")
    inputs, labels = torch.from_numpy(case.problem.train_inputs), torch.as_tensor(case.problem.train_labels)
    made = explainer(case, solves=solves)

    rows = made.rows(inputs, labels, explained="true", first=0, split="train")

    plain = torch.cat([gradient.dense().flatten(1) for gradient in rows.gradients.values()], dim=1)
    rotated = made.curvature.rotate(rows.gradients) if solves else rows.gradients
    expected = torch.from_numpy(case.train)
    assert torch.allclose(plain, expected) is solves
    norms = torch.cat([gradient.dense().flatten(1) for gradient in rotated.values()], dim=1).norm(dim=1)
    torch.testing.assert_close(norms, expected.norm(dim=1))
    torch.testing.assert_close(rows.columns["gradient_norm"], expected.norm(dim=1))


@pytest.mark.parametrize("solves", [False, True])
def test_columns_and_denominators_do_not_depend_on_it(solves: bool) -> None:
    case = explained("two layers")
    inputs, labels = torch.from_numpy(case.problem.train_inputs), torch.as_tensor(case.problem.train_labels)
    rows = explainer(case, solves=solves).rows(inputs, labels, explained=1, first=7, split="train")

    assert rows.columns["index"].tolist() == list(range(7, 7 + len(inputs)))
    assert rows.columns["explained_label"].tolist() == [1] * len(inputs)
    assert rows.columns["label"].tolist() == labels.tolist()
    assert torch.equal(rows.denominators["theta_relatif"], rows.columns["theta_norm"])
    assert torch.equal(rows.denominators["l_relatif"], rows.columns["self_influence"].sqrt())
    torch.testing.assert_close(rows.columns["probability"], (-rows.columns["loss"]).exp())

"""The worked example of several labels, cut to fewer parameters, against a dense reference."""

import itertools

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.examples import Examples
from tests.support.example_scores import Reference, assert_agree, pipeline_scores, reference_scores
from tests.support.examples import example

WIDTH, DAMPING = 5, 0.01
TRAIN, TESTS = 20, 5


def entropy(outputs: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, target, reduction="sum")


def every_target(outputs: Tensor) -> list[tuple[Tensor, float]]:
    """All combinations of labels with their probabilities."""
    p = outputs.detach().sigmoid()[0]
    found = []
    for bits in itertools.product([0.0, 1.0], repeat=len(p)):
        target = torch.tensor(bits, dtype=torch.float64)
        found.append((target[None], float(torch.where(target == 1, p, 1 - p).prod())))
    return found


def test_scores_of_several_labels_are_those_of_the_explicit_inverse() -> None:
    module = example("several_labels")
    torch.manual_seed(0)
    model = module.perceptron(WIDTH).double().eval()
    inputs = torch.randn(TRAIN + TESTS, module.FEATURES, dtype=torch.float64)
    labels = torch.randint(0, 2, (TRAIN, module.LABELS)).double()

    train, test = Examples(inputs[:TRAIN], labels, 0), Examples(inputs[TRAIN:], labels[:TESTS], 0)
    found = pipeline_scores(model, module.several_labels().likelihood, train, test, DAMPING)

    reference = Reference(model, entropy, every_target)
    expected = reference_scores(
        reference, (inputs[:TRAIN], labels), inputs[TRAIN:], DAMPING, lambda outputs: (outputs > 0).double()
    )
    assert_agree(found, expected)

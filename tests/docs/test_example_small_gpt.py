"""The worked example of a small GPT, tied and untied, cut to fewer parameters, against a dense reference."""

from collections.abc import Iterable

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.examples import Examples
from tests.support.example_scores import Reference, assert_agree, pipeline_scores, reference_scores
from tests.support.examples import example

pytest.importorskip("transformers")

WIDTH, DAMPING = 4, 0.01
TEXTS = ["ab", "abc", "bcd", "cab", "bad"]
TESTS = 2


def entropy(ignored: int):
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs[0, :-1], targets[0, 1:], ignore_index=ignored, reduction="sum")

    return loss


def every_letter(outputs: Tensor, ignored: int, length: int) -> Iterable[tuple[Tensor, float]]:
    """Yield one letter at one place of the text, with its probability there."""
    for place, shares in enumerate(outputs.detach()[0, : length - 1].softmax(dim=1).tolist()):
        for letter, share in enumerate(shares):
            alone = torch.full((1, outputs.shape[1]), ignored)
            alone[0, place + 1] = letter
            yield alone, share


@pytest.mark.parametrize("tied", [True, False])
def test_scores_of_a_language_model_are_those_of_the_explicit_inverse(*, tied: bool, monkeypatch) -> None:
    module = example("small_gpt")
    monkeypatch.setattr(module, "STEPS", 3)
    torch.manual_seed(0)
    model = module.build_model(WIDTH, tied=tied).double().eval()
    read = module.read(pa.RecordBatch.from_pydict({"text": [text[:3].ljust(3, "a") for text in TEXTS]}))
    ids = read.inputs
    train, test = Examples(ids[:-TESTS], read.targets[:-TESTS], 0), Examples(ids[-TESTS:], read.targets[-TESTS:], 0)
    task = module.tied() if tied else module.untied()

    found = pipeline_scores(model, task.likelihood, train, test, DAMPING)

    reference = Reference(model, entropy(module.PADDING), lambda outputs: every_letter(outputs, module.PADDING, 3))
    expected = reference_scores(
        reference,
        (train.inputs, train.targets),
        test.inputs,
        DAMPING,
        lambda outputs: functional.pad(outputs[:, :-1].argmax(dim=2), (1, 0), value=module.PADDING),
    )
    assert_agree(found, expected)

"""The audit as a whole: every check on every part of the data, with the largest differences that were found."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.auditing.audit import Sample, audit
from relatif.schemas.errors import ModelError
from tests.support import audited
from tests.support.audited import Net

torch.set_num_threads(1)

ROUNDING = 1e-12


def unchanged(stored: Tensor) -> Tensor:
    return stored


def samples() -> tuple[Sample, ...]:
    train = audited.examples()
    # Labels that are not there: the model's own are explained.
    test = replace(audited.examples(), targets=torch.full((audited.ROWS,), -1), first_index=0)
    return tuple(
        Sample(split, each.inputs.float(), each, explained)
        for split, each, explained in (("train", train, "true"), ("test", test, "predicted"))
    )


def test_a_good_model_passes_every_check() -> None:
    found = audit(audited.subject_of(audited.good), unchanged, samples())
    assert set(found) == {
        "read alike", "same twice", "alone as in a batch", "same with gradients",
            "loss alone as in a batch", "gradient at the outputs",
        "total probability", "captured gradient", "sum of captured gradients",
    }  # fmt: skip
    assert max(found.values()) < ROUNDING


def test_a_layer_may_be_called_twice() -> None:
    wire = lambda model, inputs: model.head(model.first(model.first(inputs).tanh()))  # noqa: E731
    assert max(audit(audited.subject_of(partial(Net, wire)), unchanged, samples()).values()) < ROUNDING


class Rare(nn.Module):
    """Mixes examples of the second part alone, which has a mark that the first lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = audited.good()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs - inputs.mean(dim=0) if bool((inputs > 50).any()) else inputs)


def test_every_part_of_the_data_is_looked_at() -> None:
    train, test = samples()
    test.examples.inputs[0, 0] = 100
    with pytest.raises(ModelError, match="found those of test examples to differ"):
        audit(audited.subject_of(Rare), unchanged, (train, test))

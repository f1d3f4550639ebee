"""Neighbours and probabilities of suspects, without a run; what a run's suspects are is in test_label_queue.py."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.devices import Worker
from relatif.pipeline.evaluations import suspects as subject
from relatif.pipeline.evaluations.suspects import class_probabilities, nearest


@dataclass(frozen=True)
class Part:
    """A shard of rows."""

    start: int
    stop: int


def neighbours(inputs: Tensor, rows: list[int], k: int) -> list[list[int]]:
    """Return the k nearest of inputs [N, D] that lie in three shards."""
    count = len(inputs)
    parts: Any = [Part(0, count // 3), Part(count // 3, count // 2), Part(count // 2, count)]
    source: Any = SimpleNamespace(
        load_task=lambda: None,
        examples=lambda task, part, device: SimpleNamespace(inputs=inputs[part.start : part.stop]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "_inputs", lambda source, task, parts, rows, worker: inputs[rows])
        found: list[list[int]] = nearest(source, parts, torch.tensor(rows), Worker(2), k).tolist()
    return found


def test_neighbours_are_the_nearest_others() -> None:
    inputs = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs[7] = inputs[31]
    apart = torch.cdist(inputs.float().double(), inputs.float().double()).fill_diagonal_(torch.inf)
    expected = apart.sort(dim=1, stable=True).indices[[31, 0, 59], :9].tolist()
    assert neighbours(inputs, [31, 0, 59], 9) == expected
    assert expected[0][0] == 7


def test_of_more_equal_inputs_than_neighbours_none_is_its_own() -> None:
    """An example may then not be among its nearest, and one of the others goes."""
    found = neighbours(torch.zeros(12, 4, dtype=torch.float64), [0, 3, 11], 5)
    assert found == [[1, 2, 3, 4, 5], [0, 1, 2, 4, 5], [0, 1, 2, 3, 4]]


def test_a_small_training_set_has_fewer() -> None:
    assert neighbours(torch.arange(3.0).double()[:, None], [0, 2], 20) == [[1, 2], [1, 0]]


def test_probabilities_are_without_weights_of_classes() -> None:
    outputs = torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.float64)
    weighted = Categorical(3, class_weights=(5.0, 1.0, 1.0), label_smoothing=0.1)
    for likelihood in (Categorical(3), weighted):
        torch.testing.assert_close(class_probabilities(likelihood, outputs), outputs.softmax(dim=1))

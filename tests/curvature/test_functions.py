"""Every layer type in many shapes: gradients of each example against torch.func, for many batch sizes."""

import pytest
import torch
from torch import nn

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.schemas.errors import ModelError
from tests.support.layers import LAYERS, inputs_for, randomized
from tests.support.rows import check_rows

torch.set_num_threads(1)


@pytest.mark.parametrize("count", [1, 2, 3, 16])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_torch_func(name: str, count: int) -> None:
    torch.manual_seed(len(name))
    make, shape = LAYERS[name]
    layer = randomized(make())
    found = check_rows(layer, inputs_for(layer, count, shape))
    assert found.keys() == dict(layer.named_parameters()).keys()


class Bags(nn.Module):
    """A bag of words with weights of their own, and the largest of a bag."""

    def __init__(self) -> None:
        super().__init__()
        self.weighted, self.largest = nn.EmbeddingBag(6, 3, mode="sum"), nn.EmbeddingBag(6, 3, mode="max")

    def forward(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return both bags."""
        return self.weighted(ids, per_sample_weights=weights) + self.largest(ids)


def test_bags_with_weights_and_the_largest_of_a_bag() -> None:
    torch.manual_seed(0)
    inputs = torch.randint(0, 6, (4, 3)), torch.randn(4, 3, dtype=torch.float64)
    check_rows(Bags().double().eval(), inputs)


class Positioned(nn.Module):
    """Words with the positions looked up once for all examples, or for each of them."""

    def __init__(self, *, copied: bool) -> None:
        super().__init__()
        self.words, self.places, self.copied = nn.Embedding(6, 3), nn.Embedding(9, 3), copied
        self.register_buffer("steps", torch.arange(9)[None])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the mean over the positions."""
        steps = self.steps[:, : ids.shape[1]]  # type: ignore[index]
        return (self.words(ids) + self.places(steps.expand_as(ids) if self.copied else steps)).tanh().mean(dim=1)


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_positions_may_be_looked_up_once_for_all_examples(count: int, *, copied: bool) -> None:
    torch.manual_seed(0)
    check_rows(Positioned(copied=copied).double().eval(), torch.randint(0, 6, (count, 4)))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False).eval()])
def test_batch_norm_by_the_batchs_own_statistics_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ModelError, match="expected batch normalization of weight, bias in evaluation mode with"):
        forward_pass(layer, torch.zeros(4, 3), coverage(layer))

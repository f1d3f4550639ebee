"""The ConvNet's layers and parameters by hand, and that it trains deterministically."""

import torch
from torch import nn

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.tasks.convnet import ConvNet, cifar_convnet, normalized
from relatif.pipeline.tasks.task import load_task

torch.set_num_threads(1)

PARAMETERS = {
    "convolution1": 16 * (3 * 9 + 1),
    "convolution2": 32 * (16 * 9 + 1),
    "convolution3": 64 * (32 * 9 + 1),
    "linear": 10 * (64 + 1),
}


def test_it_has_the_papers_parameters_and_all_are_covered() -> None:
    covered = coverage(ConvNet())
    assert {name: outputs * inputs for name, (outputs, inputs) in covered.blocks.items()} == PARAMETERS
    assert covered.covered_count == covered.total_count == sum(PARAMETERS.values()) == 24_234


def test_pools_of_three_leave_64_features() -> None:
    torch.manual_seed(0)
    model, inputs = ConvNet(), torch.randn(2, 3, 32, 32)
    hidden = inputs
    for layer, side in ((model.convolution1, 10), (model.convolution2, 3), (model.convolution3, 1)):
        hidden = nn.functional.max_pool2d(layer(hidden).clamp(min=0), kernel_size=3, stride=3)
        assert hidden.shape[2:] == (side, side)
    torch.testing.assert_close(model(inputs), hidden.flatten(1) @ model.linear.weight.T + model.linear.bias)


def test_channels_are_centred_on_the_data_sets_means() -> None:
    pixels = torch.tensor([[[0]], [[255]], [[114]]], dtype=torch.uint8)[None]
    expected = [(0 - 0.4914) / 0.2470, (1 - 0.4822) / 0.2435, (114 / 255 - 0.4465) / 0.2616]
    torch.testing.assert_close(normalized(pixels).flatten(), torch.tensor(expected))


def test_it_is_a_built_in_task() -> None:
    task = load_task("cifar_convnet")
    assert (task.name, task.likelihood) == (cifar_convnet().name, Categorical(10))

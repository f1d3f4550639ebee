"""The paper's ConvNet on CIFAR-10: 16C-32C-64C-F with max pooling after each convolution.

Axes: N examples.
"""

import torch
from torch import Tensor, nn

from relatif.pipeline.tasks.minibatch import train_by_minibatches
from relatif.pipeline.tasks.task import Task, cross_entropy

CHANNEL_MEANS = (0.4914, 0.4822, 0.4465)
CHANNEL_DEVIATIONS = (0.2470, 0.2435, 0.2616)
"""Of red, green and blue over CIFAR-10's training images, pixels scaled to [0, 1]."""


class ConvNet(nn.Module):
    """Three 3x3 convolutions with ReLU and 3x3 max pooling, then one linear layer: 24,234 parameters.

    Padding keeps the size and pools of 3 divide it, 32 -> 10 -> 3 -> 1, which leaves 64 features.
    """

    def __init__(self) -> None:
        """Make the layers with PyTorch's default initialization."""
        super().__init__()
        self.convolution1 = nn.Conv2d(3, 16, 3, padding=1)
        self.convolution2 = nn.Conv2d(16, 32, 3, padding=1)
        self.convolution3 = nn.Conv2d(32, 64, 3, padding=1)
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [N, 10] for images [N, 3, 32, 32]."""
        hidden = inputs
        for layer in (self.convolution1, self.convolution2, self.convolution3):
            hidden = nn.functional.max_pool2d(layer(hidden), 3).relu()
        return self.linear(hidden.flatten(1))


def cifar_convnet() -> Task:
    """Return the ConvNet on channels scaled to mean 0 and deviation 1, trained by SGD with momentum."""
    return Task(
        name="cifar_convnet",
        class_count=10,
        build_model=ConvNet,
        model_inputs=normalized,
        loss=cross_entropy,
        train=train_by_minibatches,
    )


def normalized(inputs: Tensor) -> Tensor:
    """Return uint8 images [N, 3, 32, 32] as float32, each channel with mean 0 and deviation 1 over the training set."""
    means, deviations = (torch.tensor(values).view(3, 1, 1) for values in (CHANNEL_MEANS, CHANNEL_DEVIATIONS))
    return (inputs.float() / 255 - means) / deviations

"""An MLP on MNIST as a task of the user's own: ``task = "mnist_mlp:mnist_mlp"`` with this folder on PYTHONPATH.

Axes: N examples.
"""

from torch import Tensor, nn

from relatif.pipeline.tasks.minibatch import train_by_minibatches
from relatif.pipeline.tasks.task import Task, cross_entropy


def mnist_mlp() -> Task:
    """Return 784 -> 64 -> 32 -> 10 with ReLU, 52,650 parameters, on pixels scaled to [0, 1]."""
    return Task(
        name="mnist_mlp",
        class_count=10,
        build_model=_model,
        model_inputs=_scaled_pixels,
        loss=cross_entropy,
        train=train_by_minibatches,
    )


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def _scaled_pixels(inputs: Tensor) -> Tensor:
    return inputs.flatten(1).float() / 255

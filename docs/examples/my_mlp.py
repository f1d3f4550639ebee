"""A perceptron with one hidden layer on images of one's own: 3 classes, grey, 8 x 8 pixels."""

from torch import Tensor, nn

from relatif.pipeline.tasks.minibatch import train_by_minibatches
from relatif.pipeline.tasks.task import Task, cross_entropy

PIXELS = 1 * 8 * 8
HIDDEN = 16
CLASSES = 3


def my_mlp() -> Task:
    """Return the task that ``my_mlp.toml`` names."""
    return Task(
        name="my_mlp",
        class_count=CLASSES,
        build_model=perceptron,
        model_inputs=scaled_pixels,
        loss=cross_entropy,
        train=train_by_minibatches,
    )


def perceptron() -> nn.Module:
    """Return the untrained model: images [N, 1, 8, 8] to logits [N, CLASSES]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def scaled_pixels(inputs: Tensor) -> Tensor:
    """Return stored images, uint8 [N, 1, 8, 8], as the model reads them: float32 from 0 to 1."""
    return inputs.float() / 255

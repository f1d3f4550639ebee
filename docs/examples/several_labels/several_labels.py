"""Which of three things are in a scene: a perceptron with a logit for each, and their likelihood."""

from torch import nn

from relatif import Bernoulli, Task, train_by_minibatches

FEATURES, LABELS = 8, 3


def several_labels() -> Task:
    """Return the task that ``several_labels.toml`` names."""
    return Task(
        name="several_labels",
        build_model=perceptron,
        train=train_by_minibatches,
        likelihood=Bernoulli(LABELS),
    )


def perceptron(width: int = 16) -> nn.Module:
    """Return the untrained model: features [N, FEATURES] to a logit for each label, [N, LABELS]."""
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, LABELS))

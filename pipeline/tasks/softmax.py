"""Sums over examples that softmax regression is made of: loss, gradient, Hessian.

Axes: N examples, C classes, I inputs with the bias folded in as a last input of 1. Everything is float64.
"""

import torch
from torch import Tensor

from relatif.pipeline.calls import read_inputs
from relatif.pipeline.devices import CPU
from relatif.pipeline.inputs import features
from relatif.pipeline.tasks.task import Batch, Task
from relatif.schemas.errors import ModelError


def folded_inputs(task: Task, batch: Batch, device: torch.device | str = CPU) -> Tensor:
    """Return a batch's inputs as the model reads them, flattened, with the constant 1: [N, I] on a device."""
    read = read_inputs(task.model_inputs, batch.inputs)
    inputs = (read.flatten(1) if isinstance(read, Tensor) else features(read)).to(device)
    folded = inputs.new_ones((inputs.shape[0], inputs.shape[1] + 1), dtype=torch.float64)
    folded[:, :-1] = inputs
    return folded


def loss_and_gradient(theta: Tensor, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of ``-log softmax(theta a_n)[label_n]`` and its gradient [C, I], for theta [C, I]."""
    log_probabilities = (inputs @ theta.T).log_softmax(dim=1)
    errors = log_probabilities.exp()
    # The gradient of the loss at the logits is p - onehot(label).
    errors[torch.arange(len(labels)), labels] -= 1
    return -log_probabilities.gather(1, labels[:, None]).sum(), errors.T @ inputs


def hessian_row(theta: Tensor, inputs: Tensor, output: int) -> Tensor:
    """Return the blocks of the loss's Hessian of one class with itself and each class after it: [C - output, I, I].

    ``sum_n p_n[o] (1[o = o'] - p_n[o']) a_n a_n'``: labels don't enter, so the Hessian is the Fisher (Eq. 7) too.
    """
    probabilities = (inputs @ theta.T).softmax(dim=1)
    own = probabilities[:, output]
    blocks = []
    for other in range(output, theta.shape[0]):
        weights = own * (float(other == output) - probabilities[:, other])
        blocks.append((inputs * weights[:, None]).T @ inputs)
    return torch.stack(blocks)


def require_plain(task: Task) -> None:
    """Raise ModelError for class weights or smoothed labels, with which these recipes don't train."""
    if getattr(task.likelihood, "weighting", None) is not None:
        raise ModelError(
            "expected plain cross-entropy to train logistic regression to its optimum, found class weights or smoothed "
            "labels; give the task train_by_minibatches or a recipe of its own"
        )

"""Per-example gradients of models of several layers: by hand for an MLP, by autograd one at a time for any model.

N examples, C classes, O_l outputs and I_l inputs (with the constant 1) of layer l, P_l = O_l * I_l. Layers are lists of
``(W [O, D], b [O])``; between them stands tanh or ReLU, after the last one nothing (logits).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from tests.reference.softmax import Array, Labels, fold, log_probabilities_of, output_gradient

Layers = Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class MlpPass:
    """What one forward and C backward passes leave.

    ``probabilities [N, C]``; per layer ``inputs [N, I_l]`` (constant 1 last) and ``class_deltas [N, C, O_l]``, the
    gradient of the loss at class y with respect to the layer's outputs.
    """

    probabilities: Array
    inputs: list[Array]
    class_deltas: list[Array]


def forward(layers: Layers, inputs: Array, *, activation: str) -> tuple[list[Array], list[Array]]:
    """Return one example's layer inputs (with the constant 1) and layer outputs, of ``inputs [D]``."""
    layer_inputs, outputs, hidden = [], [], np.asarray(inputs, np.float64)
    for weight, bias in layers:
        layer_inputs.append(np.append(hidden, 1.0))
        outputs.append(fold(weight, bias) @ layer_inputs[-1])
        hidden = _activate(outputs[-1], activation)
    return layer_inputs, outputs


def backward(layers: Layers, outputs: list[Array], label: int, *, activation: str) -> list[Array]:
    """Return one example's loss gradients with respect to each layer's outputs, ``[O_l]`` each."""
    probability = np.exp(log_probabilities_of(outputs[-1][None])[0])
    deltas = [output_gradient(probability, label)]
    for index in range(len(layers) - 1, 0, -1):
        weight = layers[index][0]
        deltas.insert(0, (weight.T @ deltas[0]) * _slope(outputs[index - 1], activation))
    return deltas


def run_mlp(layers: Layers, inputs: ArrayLike, *, activation: str) -> MlpPass:
    """Pass ``inputs [N, D]`` forward once and backward for every class."""
    classes = len(layers[-1][1])
    probabilities, all_inputs, all_deltas = [], [], []
    for row in np.asarray(inputs, np.float64):
        layer_inputs, outputs = forward(layers, row, activation=activation)
        probabilities.append(np.exp(log_probabilities_of(outputs[-1][None])[0]))
        all_inputs.append(layer_inputs)
        all_deltas.append([backward(layers, outputs, y, activation=activation) for y in range(classes)])
    count = range(len(layers))
    return MlpPass(
        probabilities=np.array(probabilities),
        inputs=[np.array([example[layer] for example in all_inputs]) for layer in count],
        class_deltas=[np.array([[d[layer] for d in example] for example in all_deltas]) for layer in count],
    )


def mlp_class_gradients(passed: MlpPass) -> list[Array]:
    """Return, per layer, the gradient of every example at every class, ``[N, C, P_l]``."""
    blocks = []
    for inputs, deltas in zip(passed.inputs, passed.class_deltas, strict=True):
        blocks.append(
            np.array([[np.outer(d, a).reshape(-1) for d in of_a] for a, of_a in zip(inputs, deltas, strict=True)])
        )
    return blocks


def label_gradients(class_gradients: Sequence[Array], labels: Labels) -> Array:
    """Pick each example's gradient at its label and join the layers: ``[N, sum P_l]``."""
    return np.concatenate([np.array([b[i, int(y)] for i, y in enumerate(labels)]) for b in class_gradients], axis=1)


def torch_mlp(layers: Layers, *, activation: str) -> torch.nn.Sequential:
    """Return the same MLP as a float64 torch model, in evaluation mode."""
    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, torch.nn.Tanh() if activation == "tanh" else torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1]).eval()


def autograd_class_gradients(model: torch.nn.Module, inputs: torch.Tensor, classes: int) -> list[Array]:
    """Return, per module that owns a weight, the gradient of every example at every class, ``[N, C, P_l]``.

    One forward and backward pass for each (example, class), no batching. ``model`` must be float64, in evaluation mode,
    and map ``inputs[i : i + 1]`` to logits ``[1, C]``. Modules come in the order of ``model.modules()``; a weight is
    flattened to ``[O, D]`` and its bias, where there is one, is the last column.
    """
    owners = [m for m in model.modules() if isinstance(getattr(m, "weight", None), torch.nn.Parameter)]
    rows = [
        [_autograd_gradient(model, owners, inputs[i : i + 1], y) for y in range(classes)] for i in range(len(inputs))
    ]
    return [np.array([[of_y[layer] for of_y in of_i] for of_i in rows]) for layer in range(len(owners))]


def _autograd_gradient(
    model: torch.nn.Module, owners: Sequence[torch.nn.Module], example: torch.Tensor, label: int
) -> list[Array]:
    loss = -torch.log_softmax(model(example)[0], dim=0)[label]
    blocks = []
    for module in owners:
        own = [p for p in (module.weight, getattr(module, "bias", None)) if isinstance(p, torch.nn.Parameter)]
        parts = torch.autograd.grad(loss, own, retain_graph=True)
        columns = [part.reshape(part.shape[0], -1).numpy() for part in parts]
        blocks.append(np.concatenate(columns, axis=1).reshape(-1))
    return blocks


def _activate(values: Array, activation: str) -> Array:
    return np.tanh(values) if activation == "tanh" else np.maximum(values, 0.0)


def _slope(values: Array, activation: str) -> Array:
    return 1.0 - np.tanh(values) ** 2 if activation == "tanh" else (values > 0).astype(np.float64)

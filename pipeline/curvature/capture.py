"""Forward passes that record what layers see and send, and the backward passes that follow. The model stays as it was.

Axes: N examples, C classes, T positions, O outputs, I inputs (bias folded as a last input of 1).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.curvature.gradients import LayerGradients, layer_gradients
from schemas.errors import ModelError, NumericalError

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]
"""From outputs [N, ...] and labels [N] to losses [N] in nats."""


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass: the model's outputs with their graph, and the layers' inputs and outputs.

    ``layer_inputs[name]`` has shape [N, T, I] with the bias folded, ``layer_outputs[name]`` is a node of the graph.
    """

    outputs: Tensor
    layer_inputs: Mapping[str, Tensor]
    layer_outputs: Mapping[str, Tensor]

    def output_gradients(self, losses: Tensor, *, keep_graph: bool = False) -> dict[str, Tensor]:
        """Differentiate per-example losses [N] with respect to every layer's outputs; each result is [N, T, O].

        Raises ModelError for a layer whose outputs the losses don't depend on.
        """
        sent = list(self.layer_outputs.values())
        gradients = torch.autograd.grad(losses.sum(), sent, retain_graph=keep_graph, allow_unused=True)
        found = dict(zip(self.layer_outputs, gradients, strict=True))
        lost = [name for name, gradient in found.items() if gradient is None]
        if lost:
            raise ModelError(f"expected the loss to depend on every trainable layer, found {lost} unused; freeze them")
        return {name: _positions(gradient) for name, gradient in found.items()}

    def gradients(self, output_gradients: Mapping[str, Tensor]) -> dict[str, LayerGradients]:
        """Return the gradients of every layer's parameters from those of its outputs."""
        return {name: layer_gradients(value, self.layer_inputs[name]) for name, value in output_gradients.items()}


def covered_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the layers whose gradients can be computed, by name; refuse a model of which a part would be left out.

    Raises ModelError for a trainable parameter outside ``nn.Linear``, for tied weights, and for a model without any.
    """
    owners: dict[int, str] = {}
    layers: dict[str, nn.Linear] = {}
    for name, module in model.named_modules():
        trainable = {key: p for key, p in module.named_parameters(recurse=False) if p.requires_grad}
        for key, parameter in trainable.items():
            path = f"{name}.{key}".lstrip(".")
            if not _is_linear(module):
                raise ModelError(
                    f"expected trainable parameters only in nn.Linear, found {path} of {type(module).__name__}; "
                    f"freeze it with requires_grad_(False) or use a layer that is covered"
                )
            if id(parameter) in owners:
                raise ModelError(
                    f"expected every parameter in one layer, found {path} tied to {owners[id(parameter)]}; untie them"
                )
            owners[id(parameter)] = path
        if isinstance(module, nn.Linear) and trainable:  # what else has trainable parameters was refused above
            _check_whole(name, module, trainable)
            layers[name] = module
    if not layers:
        raise ModelError("expected a model with trainable nn.Linear layers, found none; unfreeze one")
    return layers


def forward_pass(model: nn.Module, inputs: Tensor) -> ForwardPass:
    """Run the model on inputs [N, ...] and record every covered layer.

    Raises ModelError when a layer is called more than once or not at all, when it is cut from the graph, and when its
    outputs' first axis is not the examples'; NumericalError for outputs that are not finite.
    """
    layers = covered_layers(model)
    seen: dict[str, Tensor] = {}
    sent: dict[str, Tensor] = {}
    with _recording(layers, seen, sent), torch.enable_grad():
        outputs = model(inputs)
    missing = [name for name in layers if name not in sent]
    if missing:
        raise ModelError(f"expected every trainable layer to be used, found {missing} unused; freeze or remove them")
    for name, output in sent.items():
        _check_sent(name, output, len(inputs))
    _check_finite(outputs.detach(), "the model's outputs")
    layer_inputs = {name: _fold_bias(_positions(seen[name]), bias=layers[name].bias is not None) for name in layers}
    return ForwardPass(outputs, layer_inputs, sent)


def label_output_gradients(
    forward: ForwardPass, loss: PerExampleLoss, class_count: int
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield, for each label y, p(y | x_n) [N] and the output gradients of ``-log p(y | x_n)``: the terms of Eq. 7."""
    count = len(forward.outputs)
    for label in range(class_count):
        losses = loss(forward.outputs, torch.full((count,), label, device=forward.outputs.device))
        gradients = forward.output_gradients(losses, keep_graph=label + 1 < class_count)
        yield (-losses.detach()).exp(), gradients


def squared_norms(gradients: Mapping[str, LayerGradients], *, first_index: int, split: str = "train") -> Tensor:
    """Return ``||g_n||^2`` over all layers, [N].

    Raises NumericalError that names the layer and the example's index when a gradient is not finite.
    """
    total: Tensor | None = None
    for name, gradient in gradients.items():
        norms = gradient.weighted_norms(gradient.ones())
        bad = torch.nonzero(~torch.isfinite(norms)).flatten()
        if len(bad):
            raise NumericalError(
                f"expected finite gradients, found layer {name!r} at {split} example {first_index + int(bad[0])} "
                f"not to be ({len(bad)} such examples in its batch); mend the example or the model"
            )
        total = norms if total is None else total + norms
    if total is None:
        raise ModelError("expected gradients of at least one layer, found none")
    return total


def _is_linear(module: nn.Module) -> bool:
    # A subclass may compute something else, of which the rule for linear layers would be silently wrong.
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def _check_sent(name: str, output: Tensor, count: int) -> None:
    if len(output) != count:
        raise ModelError(
            f"expected the outputs of layer {name!r} to have the {count} examples as first axis, found shape "
            f"{list(output.shape)}; don't fold other axes into it: nn.Linear takes any between the first and the last"
        )
    if not output.requires_grad:
        raise ModelError(f"expected layer {name!r} to be differentiated, found it called under no_grad; freeze it")


def _positions(values: Tensor) -> Tensor:
    """Fold all axes between the first and the last into one axis of positions: [N, ..., F] -> [N, T, F]."""
    return values.reshape(values.shape[0], -1, values.shape[-1])


def _fold_bias(inputs: Tensor, *, bias: bool) -> Tensor:
    return torch.cat([inputs, inputs.new_ones((*inputs.shape[:-1], 1))], dim=-1) if bias else inputs


def _check_whole(name: str, module: nn.Linear, trainable: Mapping[str, nn.Parameter]) -> None:
    frozen = {key for key, _ in module.named_parameters(recurse=False)} - set(trainable)
    if frozen:
        raise ModelError(
            f"expected layer {name!r} trainable or frozen as a whole, found {sorted(frozen)} frozen and "
            f"{sorted(trainable)} trainable; set requires_grad alike"
        )


def _check_finite(values: Tensor, what: str) -> None:
    bad = torch.nonzero(~torch.isfinite(values).flatten(1).all(dim=1)).flatten()
    if len(bad):
        raise NumericalError(
            f"expected {what} to be finite, found row {int(bad[0])} of the batch not to be; mend the data or the model"
        )


@contextmanager
def _recording(layers: Mapping[str, nn.Linear], seen: dict[str, Tensor], sent: dict[str, Tensor]) -> Iterator[None]:
    versions: dict[str, tuple[Tensor, int]] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor], Tensor], Tensor]:
        def record(_module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
            if name in sent:
                raise ModelError(f"expected one call of layer {name!r} in a forward pass, found two; use two layers")
            (inputs,) = (*args, *named.values())
            seen[name], sent[name] = inputs.detach(), output
            versions[name] = (inputs, inputs._version)
            # The model goes on with a copy, so that an in-place activation can't overwrite what was recorded.
            return output.clone()

        return record

    handles = [layer.register_forward_hook(recorder(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    changed = [name for name, (tensor, version) in versions.items() if tensor._version != version]
    if changed:
        raise ModelError(f"expected inputs of layers to stay as they were, found those of {changed} changed in place")

"""Forward passes that record what layers see and send, and the backward passes that follow. The model stays as it was.

Axes: N examples, T positions, O outputs, I inputs of a block (bias folded as a last input of 1).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.fisher import fisher_terms
from relatif.pipeline.curvature.gradients import LayerGradients, layer_gradients
from relatif.pipeline.curvature.rules import Factors
from relatif.pipeline.curvature.subject import Examples, Subject
from relatif.schemas.errors import ModelError, NumericalError


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass: the model's outputs with their graph, and what the covered layers saw and sent.

    ``layer_inputs[layer]`` holds [N, T, I] for each of its blocks, ``layer_outputs[layer]`` is a node of the graph.
    """

    outputs: Tensor
    coverage: Coverage
    layer_inputs: Mapping[str, list[Tensor]]
    layer_outputs: Mapping[str, Tensor]

    def output_gradients(self, losses: Tensor, *, keep_graph: bool = False) -> dict[str, Tensor]:
        """Differentiate per-example losses [N] with respect to what every layer sent; results have its shape.

        Raises ModelError for a layer whose outputs the losses don't depend on.
        """
        sent = list(self.layer_outputs.values())
        gradients = torch.autograd.grad(losses.sum(), sent, retain_graph=keep_graph, allow_unused=True)
        found = dict(zip(self.layer_outputs, gradients, strict=True))
        lost = [name for name, gradient in found.items() if gradient is None]
        if lost:
            raise ModelError(f"expected the loss to depend on every trainable layer, found {lost} unused; freeze them")
        return found

    def factors(self, output_gradients: Mapping[str, Tensor]) -> dict[str, Factors]:
        """Return every block's factors, [N, T, O] and [N, T, I], from the gradients of what layers sent."""
        found: dict[str, Factors] = {}
        for name, gradient in output_gradients.items():
            layer = self.coverage.layers[name]
            factors = layer.rule.factors(layer.module, self.layer_inputs[name], gradient)
            found.update(zip(layer.blocks, factors, strict=True))
        return found

    def gradients(self, output_gradients: Mapping[str, Tensor]) -> dict[str, LayerGradients]:
        """Return the gradients of every block's parameters from those of what layers sent."""
        return {name: layer_gradients(*factors) for name, factors in self.factors(output_gradients).items()}


def forward_pass(model: nn.Module, inputs: Tensor, covered: Coverage, *, first_index: int = 0) -> ForwardPass:
    """Run the model on inputs [N, ...], rows from ``first_index`` on, and record every covered layer.

    Raises ModelError when a layer is called more than once or not at all, when it is cut from the graph, and when its
    outputs' first axis is not the examples'; NumericalError for outputs that are not finite.
    """
    layers = covered.layers
    seen: dict[str, Tensor] = {}
    sent: dict[str, Tensor] = {}
    with _recording({name: layer.module for name, layer in layers.items()}, seen, sent), torch.enable_grad():
        outputs = model(inputs)
    missing = [name for name in layers if name not in sent]
    if missing:
        raise ModelError(f"expected every trainable layer to be used, found {missing} unused; freeze or remove them")
    for name, output in sent.items():
        _check_sent(name, output, len(inputs))
    bad = _first_not_finite(outputs.detach())
    if bad is not None:
        raise NumericalError(
            f"expected the model's outputs to be finite, found row {first_index + bad} not to be; mend the data or the "
            f"model"
        )
    layer_inputs = {name: layer.rule.inputs(layer.module, seen[name]) for name, layer in layers.items()}
    return ForwardPass(outputs, covered, layer_inputs, {name: sent[name] for name in layers})


def term_output_gradients(
    forward: ForwardPass, subject: Subject, examples: Examples
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield, for each term of the Fisher, its weights [N] and the gradients of what layers sent.

    Raises NumericalError that names the layer and the example's row when one is not finite.
    """
    terms = list(
        fisher_terms(
            subject.fisher, subject.loss, forward.outputs.detach(), examples.labels, first_index=examples.first_index
        )
    )
    for place, (targets, weights) in enumerate(terms):
        losses = subject.loss(forward.outputs, targets)
        gradients = forward.output_gradients(losses, keep_graph=place + 1 < len(terms))
        for name, gradient in gradients.items():
            _refuse_not_finite(name, gradient, examples.first_index, "train")
        yield weights, gradients


def squared_norms(gradients: Mapping[str, LayerGradients], *, first_index: int, split: str = "train") -> Tensor:
    """Return ``||g_n||^2`` over all blocks, [N].

    Raises NumericalError that names the layer and the example's index when a gradient is not finite.
    """
    total: Tensor | None = None
    for name, gradient in gradients.items():
        norms = gradient.weighted_norms(gradient.ones())
        _refuse_not_finite(name, norms[:, None], first_index, split)
        total = norms if total is None else total + norms
    if total is None:
        raise ModelError("expected gradients of at least one layer, found none")
    return total


def _check_sent(name: str, output: Tensor, count: int) -> None:
    if len(output) != count:
        raise ModelError(
            f"expected the outputs of layer {name!r} to have the {count} examples as first axis, found shape "
            f"{list(output.shape)}; don't fold other axes into it"
        )
    if not output.requires_grad:
        raise ModelError(f"expected layer {name!r} to be differentiated, found it called under no_grad; freeze it")


def _first_not_finite(values: Tensor) -> int | None:
    bad = torch.nonzero(~torch.isfinite(values).flatten(1).all(dim=1)).flatten()
    return int(bad[0]) if len(bad) else None


def _refuse_not_finite(name: str, values: Tensor, first_index: int, split: str) -> None:
    # A sum is several times cheaper than looking at every value, and finite only if all of them are.
    if bool(values.sum().isfinite()):
        return
    bad = torch.nonzero(~torch.isfinite(values).flatten(1).all(dim=1)).flatten()
    if len(bad):
        raise NumericalError(
            f"expected finite gradients, found layer {name!r} at {split} example {first_index + int(bad[0])} "
            f"not to be ({len(bad)} such examples in its batch); mend the example or the model"
        )


@contextmanager
def _recording(layers: Mapping[str, nn.Module], seen: dict[str, Tensor], sent: dict[str, Tensor]) -> Iterator[None]:
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

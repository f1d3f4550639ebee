"""Forward passes that record layers' inputs and outputs, and the backward passes that follow. No model is changed.

Axes: N examples, T positions, O outputs, I inputs of a block (bias folded as a last input of 1).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import fisher_gradients
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.gradients import layer_gradients
from relatif.pipeline.curvature.likelihood import Term
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.rules import Factors
from relatif.pipeline.curvature.sides import Side, bytes_of, positions_of
from relatif.pipeline.inputs import Inputs, copied, count
from relatif.schemas.errors import ModelError, NumericalError


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass: the model's outputs with their graph, and the covered layers' inputs and outputs.

    ``layer_inputs[layer]`` holds what the layer's rule keeps of its inputs, [N, T, I] for each of its blocks;
    ``layer_outputs[layer]`` is a node of the graph.
    """

    outputs: Tensor
    coverage: Coverage
    layer_inputs: Mapping[str, Sequence[Side]]
    layer_outputs: Mapping[str, Tensor]

    def backward(self, gradient: Tensor, *, keep_graph: bool = False) -> dict[str, Tensor]:
        """Return the losses' gradients at every layer's outputs, given those at the model's outputs, [N, ...].

        Raises ModelError for a layer that the model's outputs don't depend on, and for a gradient of another shape.
        """
        if gradient.shape != self.outputs.shape:
            raise ModelError(
                f"expected a gradient of the outputs' shape {list(self.outputs.shape)}, found {list(gradient.shape)}; "
                f"let the likelihood return one value for each output"
            )
        outputs = list(self.layer_outputs.values())
        # Unused layers come back as None, so that the error can name all of them.
        gradients = torch.autograd.grad(self.outputs, outputs, gradient, retain_graph=keep_graph, allow_unused=True)
        found = dict(zip(self.layer_outputs, gradients, strict=True))
        lost = [name for name, gradient in found.items() if gradient is None]
        if lost:
            raise ModelError(f"expected the loss to depend on every trainable layer, found {lost} unused; freeze them")
        return found

    @property
    def nbytes(self) -> int:
        """Return the size of what is kept of the layers' inputs and outputs."""
        inputs = [values for blocks in self.layer_inputs.values() for values in blocks]
        return sum(map(bytes_of, (*inputs, *self.layer_outputs.values())))

    @property
    def positions(self) -> dict[str, int]:
        """Return at how many positions every block is applied."""
        layers = self.coverage.layers.items()
        pairs = (zip(layer.blocks, self.layer_inputs[name], strict=True) for name, layer in layers)
        return {block: positions_of(values) for blocks in pairs for block, values in blocks}

    def factors(self, output_gradients: Mapping[str, Tensor]) -> dict[str, list[Factors]]:
        """Return the factors of every block's uses from the gradients at layers' outputs."""
        found: dict[str, list[Factors]] = {}
        for name, gradient in output_gradients.items():
            layer = self.coverage.layers[name]
            factors = layer.rule.factors(layer.module, self.layer_inputs[name], gradient)
            found.update({block: [use] for block, use in zip(layer.blocks, factors, strict=True)})
        return found

    def gradients(self, output_gradients: Mapping[str, Tensor]) -> dict[str, LayerGradients]:
        """Return the gradients of every block's parameters from those at layers' outputs."""
        return {name: layer_gradients(uses) for name, uses in self.factors(output_gradients).items()}


def forward_pass(model: nn.Module, inputs: Inputs, covered: Coverage, *, first_index: int = 0) -> ForwardPass:
    """Run the model on inputs [N, ...], rows from ``first_index`` on, and record every covered layer.

    Raises ModelError when a layer is called more than once or not at all, when it is cut from the graph, and when its
    or the model's outputs' first axis is not the examples'; NumericalError for outputs that are not finite.
    """
    layers = covered.layers
    layer_inputs: dict[str, Tensor] = {}
    layer_outputs: dict[str, Tensor] = {}
    modules = {name: layer.module for name, layer in layers.items()}
    # Layers are differentiated later, even where the caller has switched gradients off.
    with _recording(modules, layer_inputs, layer_outputs), torch.enable_grad():
        # A copy, so that a model which normalizes its input in place changes nothing that others read.
        outputs = run_model(model, copied(inputs), first_index=first_index)
    missing = [name for name in layers if name not in layer_outputs]
    if missing:
        raise ModelError(f"expected every trainable layer to be used, found {missing} unused; freeze or remove them")
    for name, output in layer_outputs.items():
        _check_output(name, output, count(inputs))
    bad = first_not_finite(outputs.detach())
    if bad is not None:
        raise NumericalError(
            f"expected the model's outputs to be finite, found row {first_index + bad} not to be; look at that row "
            f"and at the model's parameters"
        )
    # After the pass, which ends by checking that no layer's inputs were changed in place.
    kept = {name: layer.rule.inputs(layer.module, layer_inputs[name]) for name, layer in layers.items()}
    return ForwardPass(outputs, covered, kept, {name: layer_outputs[name] for name in layers})


def term_output_gradients(
    forward: ForwardPass, subject: CoveredModel, examples: Examples
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield, for each term of the Fisher, its weights [N] and the gradients at layers' outputs.

    Raises NumericalError that names the layer and the example's row when one is not finite.
    """
    first = examples.first_index
    terms = fisher_gradients(subject.fisher, subject.likelihood, forward.outputs, examples.targets, first_index=first)
    for (at_outputs, weights), is_last in _with_last(terms):
        # All terms share one graph; the last one frees it.
        gradients = forward.backward(at_outputs, keep_graph=not is_last)
        for name, gradient in gradients.items():
            _refuse_not_finite(name, gradient, first, "train")
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


def _with_last(terms: Iterator[Term]) -> Iterator[tuple[Term, bool]]:
    """Yield each term with whether it is the last one; two are held at once."""
    held = next(terms, None)
    while held is not None:
        following = next(terms, None)
        yield held, following is None
        held = following


def _check_output(name: str, output: Tensor, count: int) -> None:
    if len(output) != count:
        raise ModelError(
            f"expected the outputs of layer {name!r} to have the {count} examples as first axis, found shape "
            f"{list(output.shape)}; don't fold other axes into it"
        )
    if not output.requires_grad:
        raise ModelError(f"expected layer {name!r} to be differentiated, found it called under no_grad; freeze it")


def first_not_finite(values: Tensor) -> int | None:
    """Return the first row of [N, ...] that holds a value that is not finite, or None."""
    rows = values if values.ndim > 1 else values[:, None]
    bad = torch.nonzero(~torch.isfinite(rows).flatten(1).all(dim=1)).flatten()
    return int(bad[0]) if len(bad) else None


def _refuse_not_finite(name: str, values: Tensor, first_index: int, split: str) -> None:
    # A sum is several times cheaper than looking at every value, and finite only if all of them are.
    if bool(values.sum().isfinite()):
        return
    bad = first_not_finite(values)
    if bad is not None:
        raise NumericalError(
            f"expected finite gradients, found layer {name!r} at {split} example {first_index + bad} not to be; "
            f"look at that example and at the model's parameters"
        )


@contextmanager
def _recording(
    layers: Mapping[str, nn.Module], layer_inputs: dict[str, Tensor], layer_outputs: dict[str, Tensor]
) -> Iterator[None]:
    """Fill both dictionaries while the block runs the model once."""
    versions: dict[str, tuple[Tensor, int]] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor], Tensor], Tensor]:
        def record(_module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
            if name in layer_outputs:
                raise ModelError(f"expected one call of layer {name!r} in a forward pass, found two; use two layers")
            # A covered layer has one input, by position or by name.
            (inputs,) = (*args, *named.values())
            layer_inputs[name], layer_outputs[name] = inputs.detach(), output
            # torch counts a tensor's changes in place.
            versions[name] = (inputs, inputs._version)
            # The model goes on with a copy, so that an in-place activation can't overwrite what was recorded.
            return output.clone()

        return record

    # Before the layer's own hooks: what they make of its output is no longer its rule's.
    handles = [
        layer.register_forward_hook(recorder(name), with_kwargs=True, prepend=True) for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    changed = [name for name, (tensor, version) in versions.items() if tensor._version != version]
    if changed:
        raise ModelError(f"expected unchanged inputs of layers, found those of {changed} changed in place; copy them")

"""Forward passes that record how parameters are used, and the backward passes that follow. No model is changed.

Axes: N examples, T positions, O outputs, I inputs of a block (bias folded as a last input of 1).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NoReturn

import torch
from torch import Tensor, nn

from relatif.pipeline.calls import run_backward, run_model
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import fisher_gradients
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.functions import recorder_of
from relatif.pipeline.curvature.gradients import layer_gradients
from relatif.pipeline.curvature.likelihood import Term
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.ownership import check_again, check_alone, check_own_rows, check_ways, state_of
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.recording import Recorder, Use
from relatif.pipeline.curvature.sides import bytes_of, dense
from relatif.pipeline.inputs import Inputs, copied, count, first_not_finite
from relatif.schemas.errors import ModelError, NumericalError

Gradients = list[Tensor | None]
"""The gradient at the node of every use, None where the model's outputs don't depend on it."""


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass: the model's outputs with their graph, and every use of the covered parameters."""

    outputs: Tensor
    coverage: Coverage
    uses: Sequence[Use]

    def backward(self, gradient: Tensor, *, keep_graph: bool = False) -> Gradients:
        """Return the losses' gradients at every use, given those at the model's outputs, [N, ...].

        Raises ModelError for a layer that the model's outputs don't depend on, and for a gradient of another shape.
        """
        if gradient.shape != self.outputs.shape:
            raise ModelError(
                f"expected a gradient of the outputs' shape {list(self.outputs.shape)}, found {list(gradient.shape)}; "
                f"let the likelihood return one value for each output"
            )
        if not self.outputs.requires_grad:
            raise ModelError(
                "expected outputs that depend on the covered parameters, found them cut from those; compute them in "
                "torch, without detach(), no_grad() or numpy"
            )
        nodes = [use.node for use in self.uses]
        # Unused layers come back as None, so that the error can name all of them.
        found = run_backward(self.outputs, nodes, gradient, keep_graph=keep_graph)
        reached = {
            block for use, each in zip(self.uses, found, strict=True) if each is not None for block in use.blocks
        }
        lost = _layers_without(self.coverage, reached)
        if lost:
            raise ModelError(
                f"expected the loss to depend on every trainable layer, found {lost} unused; freeze them, or "
                f"leave them out by curvature.exclude"
            )
        return list(found)

    @property
    def nbytes(self) -> int:
        """Return the size of what is kept of the layers' inputs and outputs."""
        return sum(use.node.nbytes + sum(map(bytes_of, use.kept)) for use in self.uses)

    @property
    def positions(self) -> dict[str, int]:
        """Return at how many positions every block is applied."""
        return {block: sum(use.positions for use in self.uses if block in use.blocks) for block in self.coverage.blocks}

    def factors(self, gradients: Gradients) -> dict[str, list[Factors]]:
        """Return the factors of every block's uses from the gradients there.

        A block that holds the gradient as it is has one, summed over its uses: it stays exact.
        """
        found: dict[str, list[Factors]] = {name: [] for name in self.coverage.blocks}
        for use, gradient in zip(self.uses, gradients, strict=True):
            if gradient is not None:
                for block, factors in use.factors(gradient):
                    found[block].append(factors)
        exact = self.coverage.exact
        summed = {name: _summed(uses) if name in exact else uses for name, uses in found.items()}
        for name, uses in summed.items():
            if not uses:
                raise ModelError(f"expected the loss to depend on every trainable parameter, found {name!r} unused")
        return summed

    def gradients(self, gradients: Gradients) -> dict[str, LayerGradients]:
        """Return the gradients of every block's parameters from those at their uses."""
        return {name: layer_gradients(uses) for name, uses in self.factors(gradients).items()}


def forward_pass(
    model: nn.Module, inputs: Inputs, covered: Coverage, *, first_index: int = 0, proven: bool = False
) -> ForwardPass:
    """Run the model on inputs [N, ...], rows from ``first_index`` on, and record every use of covered parameters.

    What makes per-example gradients right is proven of every pass; where the same pass was ``proven`` before, it is not
    proven again.
    Raises ModelError for a layer that is not used, or cut from the graph, for a use that is not understood, and for
    data whose first axis is not the examples'; NumericalError for outputs that are not finite.
    """
    recorder, before = recorder_of(model, covered, count(inputs)), state_of(model)
    # A copy, so that a model which normalizes its input in place changes nothing that others read.
    given = copied(inputs)
    # Layers are differentiated later, even where the caller has switched gradients off.
    with recorder, torch.enable_grad():
        outputs = run_model(model, given, first_index=first_index)
    _check_trainable(covered)
    _check_uses(covered, recorder)
    bad = first_not_finite(outputs.detach())
    if bad is not None:
        raise NumericalError(
            f"expected the model's outputs to be finite, found row {first_index + bad} not to be; look at that row "
            f"and at the model's parameters"
        )
    if not proven:
        check_ways(outputs, recorder.ends, recorder.names)
        if not state_of(model).same(before):
            check_again(model, inputs, outputs, first_index=first_index)
        check_alone(model, inputs, outputs, first_index=first_index)
        check_own_rows(model, outputs, recorder.uses, covered.layers, recorder.trail)
    return ForwardPass(outputs, covered, recorder.uses)


def _check_trainable(covered: Coverage) -> None:
    for layer in covered.layers.values():
        for name in layer.places:
            if not getattr(layer.module, name.rpartition(".")[2]).requires_grad:
                raise ModelError(
                    f"expected covered parameters to stay trainable in a forward pass, found {name} frozen by it; "
                    f"freeze it when the model is built, or leave it out by curvature.exclude = ['{name}']"
                )


def _check_uses(covered: Coverage, recorder: Recorder) -> None:
    used = {block for use in recorder.uses for block in use.blocks}
    missing = _layers_without(covered, used)
    cut = [name for name in missing if recorder.without_graph & set(covered.layers[name].blocks)]
    if cut:
        raise ModelError(f"expected layer {cut[0]!r} to be differentiated, found it called under no_grad; freeze it")
    if missing:
        raise ModelError(
            f"expected every trainable layer to be used, found {missing} unused; freeze them, or "
            f"leave them out by curvature.exclude"
        )
    changed = recorder.changed()
    if changed:
        raise ModelError(f"expected unchanged inputs of layers, found those of {changed} changed in place; copy them")


def _layers_without(covered: Coverage, blocks: Collection[str]) -> list[str]:
    """Return the layers that have a block which is not among some."""
    return [name for name, layer in covered.layers.items() if not set(layer.blocks) <= set(blocks)]


def _summed(uses: list[Factors]) -> list[Factors]:
    """Return the uses of a block with one side constant as one."""
    if len(uses) <= 1:
        return uses
    first = uses[0]
    total = reduce(torch.add, (dense(use.gradients).sum(dim=1, keepdim=True) for use in uses))
    return [first._replace(inputs=total) if first.transposed else first._replace(outputs=total)]


def term_output_gradients(
    forward: ForwardPass, subject: CoveredModel, examples: Examples
) -> Iterator[tuple[Tensor, Gradients]]:
    """Yield, for each term of the Fisher, its weights [N] and the gradients at every use.

    Raises NumericalError that names the layer and the example's row when one is not finite.
    """
    first = examples.first_index
    terms = fisher_gradients(subject.fisher, subject.likelihood, forward.outputs, examples.targets, first_index=first)
    for (at_outputs, weights), is_last in _with_last(terms):
        # All terms share one graph; the last one frees it.
        gradients = forward.backward(at_outputs, keep_graph=not is_last)
        for use, gradient in zip(forward.uses, gradients, strict=True):
            if gradient is not None:
                layer, own = _layer_of(forward.coverage, use), gradient.unflatten(0, (len(examples), -1))
                _refuse_not_finite(layer, own, first, "train")
        yield weights, gradients


def raise_not_finite(gradients: Mapping[str, LayerGradients], *, first_index: int, split: str = "train") -> NoReturn:
    """Raise NumericalError that names the layer and the example's index where a squared norm is not finite."""
    for name, gradient in gradients.items():
        _refuse_not_finite(name, gradient.weighted_norms(gradient.ones()).T, first_index, split)
    raise NumericalError(
        f"expected finite norms of gradients, found them too large at {split} example {first_index} or one of those "
        f"that follow; scale the loss down"
    )


def _with_last(terms: Iterator[Term]) -> Iterator[tuple[Term, bool]]:
    """Yield each term with whether it is the last one; two are held at once."""
    held = next(terms, None)
    while held is not None:
        following = next(terms, None)
        yield held, following is None
        held = following


def _layer_of(covered: Coverage, use: Use) -> str:
    return next(name for name, layer in covered.layers.items() if use.blocks & set(layer.blocks))


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

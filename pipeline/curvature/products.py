"""Products of the Fisher with many vectors at once, without the matrix.

Axes: N examples, T positions, O outputs, I inputs of a block (bias folded), C terms of the Fisher, R vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.curvature.capture import ForwardPass, forward_pass, term_output_gradients
from pipeline.curvature.pieces import pieces
from pipeline.curvature.subject import Examples, Subject

PRODUCT_BYTES = 64 * 2**20
"""Products of a piece's inputs with vectors, of one block, that are held at once."""

Vectors = Mapping[str, Tensor]
"""For each block R matrices, [R, O, I]."""


@dataclass(frozen=True)
class _Block:
    """A block of some examples: inputs [N, T, I], or one for each term where they depend on it; outputs [N, T, O]."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


def fisher_products(subject: Subject, examples: Examples, vectors: Vectors) -> dict[str, Tensor]:
    """Return ``sum_n E_y g_ny (g_ny' v)`` of R vectors, each [R, O, I], expectation as in Eq. 7.

    A gradient is a sum over positions of outer products, ``sum_t d x a``, so ``g' v = sum_t d' (V a)``: the vectors
    meet each input once for all labels, and the gradients are never formed. Raises as ``term_output_gradients`` does.
    """
    totals = {name: torch.zeros_like(values) for name, values in vectors.items()}
    for piece in pieces(subject, examples):
        forward = forward_pass(subject.model, piece.inputs, subject.coverage, first_index=piece.first_index)
        weights, blocks = _factors(forward, subject, piece)
        width = _vectors_at_once(blocks)
        count = len(next(iter(vectors.values())))
        for some in torch.arange(count).split(width):
            chosen = slice(int(some[0]), int(some[-1]) + 1)
            part = _products(weights, blocks, {name: values[chosen] for name, values in vectors.items()})
            for name, values in part.items():
                totals[name][chosen] += values
    return totals


def _factors(forward: ForwardPass, subject: Subject, examples: Examples) -> tuple[list[Tensor], dict[str, _Block]]:
    """Return the weights [N] of each term, and every block's factors."""
    elementwise = {
        block for layer in forward.coverage.layers.values() if layer.rule.elementwise for block in layer.blocks
    }
    all_weights: list[Tensor] = []
    inputs: dict[str, list[Tensor]] = {}
    outputs: dict[str, list[Tensor]] = {}
    for weights, output_gradients in term_output_gradients(forward, subject, examples):
        all_weights.append(weights)
        for name, (sent, seen) in forward.factors(output_gradients).items():
            outputs.setdefault(name, []).append(sent)
            if name in elementwise or name not in inputs:
                inputs.setdefault(name, []).append(seen)
    return all_weights, {name: _Block(inputs[name], outputs[name]) for name in outputs}


def _vectors_at_once(blocks: Mapping[str, _Block]) -> int:
    largest = max(sent.numel() for block in blocks.values() for sent in block.outputs)
    return max(1, PRODUCT_BYTES // (8 * largest))


def _products(weights: Sequence[Tensor], blocks: Mapping[str, _Block], vectors: Vectors) -> dict[str, Tensor]:
    """Return the sums of some vectors: meet the inputs, then the outputs of each term, and back."""
    met = {
        name: [torch.einsum("nti,roi->ntro", seen, vectors[name]) for seen in block.inputs]
        for name, block in blocks.items()
    }
    back = {name: [torch.zeros_like(values) for values in parts] for name, parts in met.items()}
    for term, weight in enumerate(weights):
        sent = {name: block.outputs[term][:, :, None] for name, block in blocks.items()}
        place = {name: min(term, len(parts) - 1) for name, parts in met.items()}
        dots = sum((met[name][place[name]] * sent[name]).sum(dim=(1, 3)) for name in blocks)
        assert isinstance(dots, Tensor)
        dots = dots * weight[:, None]
        for name in blocks:
            back[name][place[name]] += dots[:, None, :, None] * sent[name]
    found = {name: torch.zeros_like(values) for name, values in vectors.items()}
    for name, block in blocks.items():
        for values, seen in zip(back[name], block.inputs, strict=True):
            found[name] += torch.einsum("ntro,nti->roi", values, seen)
    return found

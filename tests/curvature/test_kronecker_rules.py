"""Kronecker factors of every layer type against the dense float64 definition, example by example and label by label."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import KroneckerBasis
from relatif.pipeline.curvature.kronecker import eigenbasis, kronecker_sums, spectrum_sums
from tests.support.layered import CASES, CLASSES, subject_and_examples, weighted_gradients

torch.set_num_threads(1)

EXACT = 1e-11
"""Relative to the largest entry: float64 sums of a few hundred terms in another order."""


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


def rotated(basis: KroneckerBasis, gradient: Tensor) -> Tensor:
    """Return Q'g of one gradient [O, I]; a side without a basis has the identity."""
    of_outputs = gradient if basis.output is None else basis.output.T @ gradient
    return of_outputs if basis.input is None else of_outputs @ basis.input


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("name", CASES)
def test_measured_spectra_are_those_of_autograd(name: str, kind: str) -> None:
    subject, examples = subject_and_examples(name, kind, 6)
    sums = kronecker_sums(subject, examples)
    bases = {
        block: KroneckerBasis(eigenbasis(part.output_moment, 6)[1], eigenbasis(part.input_moment, 6)[1])
        for block, part in sums.layers.items()
    }
    found = spectrum_sums(subject, examples, bases)

    expected = {block: torch.zeros_like(spectrum) for block, spectrum in found.layers.items()}
    for weight, gradients in weighted_gradients(subject, examples):
        for layer in subject.coverage.layers.values():
            # Linear in the blocks, so its transpose gives each block's gradient back from the parameters'.
            shapes = layer.blocks.items()
            zeros = {name: torch.zeros(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes}
            dot = sum((place.values(zeros) * gradients[key]).sum() for key, place in layer.places.items())
            for block, gradient in zip(layer.blocks, torch.autograd.grad(dot, list(zeros.values())), strict=True):
                expected[block] += weight * rotated(bases[block], gradient).square()
    for block, spectrum in found.layers.items():
        assert_close(spectrum, expected[block])


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_the_block_of_a_scale_and_shift_is_the_dense_definition(kind: str) -> None:
    subject, examples = subject_and_examples("images", kind, 8)
    sums = kronecker_sums(subject, examples)

    gradients = weighted_gradients(subject, examples)
    for name in ("1", "4"):
        rows = [(w, torch.cat([g[f"{name}.weight"], g[f"{name}.bias"]])) for w, g in gradients]
        expected = sum(weight * torch.outer(row, row) for weight, row in rows)
        assert isinstance(expected, Tensor)
        assert_close(sums.layers[name].input_moment * sums.layers[name].output_moment / sums.count, expected)


@pytest.mark.parametrize("count", [1, 5])
def test_convolution_averages_patches_and_sums_output_gradients(count: int) -> None:
    subject, examples = subject_and_examples("series", "exact", count)
    found = kronecker_sums(subject, examples).layers["0"]

    convolution, rest = subject.model[0], subject.model[1:]
    a, b = torch.zeros(7, 7, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for row in examples.inputs:
        patches = [row[:, start : start + 5 : 2].reshape(-1) for start in range(4)]
        a += sum(torch.outer(p, p) for p in (torch.cat([patch, torch.ones(1)]) for patch in patches)) / 4
        sent = convolution(row[None]).detach().requires_grad_()
        logits = rest(sent)
        for label in range(CLASSES):
            (delta,) = torch.autograd.grad(-logits.log_softmax(1)[0, label], sent, retain_graph=True)
            b += logits.softmax(1)[0, label].detach() * delta[0] @ delta[0].T
    assert_close(found.input_moment, a)
    assert_close(found.output_moment, b)

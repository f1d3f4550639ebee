"""Kronecker sums, their eigenbases and spectra against dense references; merging over any split."""

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from relatif.pipeline.curvature.eigen import KroneckerBasis
from relatif.pipeline.curvature.kronecker import (
    KroneckerSums,
    SpectrumSums,
    eigenbasis,
    kronecker_spectrum,
    kronecker_sums,
    spectrum_sums,
)
from relatif.schemas.errors import NumericalError
from tests.reference import fisher, mlp, problems, softmax
from tests.reference.softmax import Array
from tests.support.curvatures import examples_of, subject_of
from tests.support.faulty import Root

torch.set_num_threads(1)

TOLERANCE = 1e-10
"""Relative to the largest entry: float64 sums of a few dozen terms."""

ROWS = 24
FEATURES = 4
CLASSES = 3
PROBLEMS = {
    "softmax regression": ((FEATURES, CLASSES), "tanh"),
    "two layers": ((FEATURES, 5, CLASSES), "tanh"),
    "three layers": ((FEATURES, 6, 4, CLASSES), "relu"),
}


@dataclass(frozen=True)
class Case:
    """A model, its examples, and what the reference makes of them."""

    model: nn.Module
    inputs: Tensor
    passed: mlp.MlpPass

    def sums(self, rows: slice = slice(None)) -> KroneckerSums:
        return kronecker_sums(subject_of(self.model, CLASSES), examples_of(self.inputs[rows]))

    def bases(self) -> dict[str, KroneckerBasis]:
        sums = self.sums()
        return {
            name: KroneckerBasis(
                eigenbasis(layer.output_moment, sums.count)[1], eigenbasis(layer.input_moment, sums.count)[1]
            )
            for name, layer in sums.layers.items()
        }

    def spectra(self, rows: slice = slice(None)) -> SpectrumSums:
        return spectrum_sums(subject_of(self.model, CLASSES), examples_of(self.inputs[rows]), self.bases())

    def factors(self) -> list[tuple[Array, Array]]:
        pairs = zip(self.passed.inputs, self.passed.class_deltas, strict=True)
        return [fisher.kronecker_factors(inputs, deltas, self.passed.probabilities) for inputs, deltas in pairs]


def make(name: str) -> Case:
    widths, activation = PROBLEMS[name]
    problem = problems.random_mlp(3, widths=widths, activation=activation, train=ROWS)
    passed = mlp.run_mlp(problem.layers, problem.train_inputs, activation=activation)
    model = mlp.torch_mlp(problem.layers, activation=activation)
    return Case(model, torch.from_numpy(problem.train_inputs), passed)


def assert_close(found: Tensor, expected: Array) -> None:
    assert found.dtype == torch.float64
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("name", PROBLEMS)
def test_sums_are_the_references_factors(name) -> None:
    case = make(name)

    sums = case.sums()

    assert sums.count == ROWS
    for layer, (a, b) in zip(sums.layers.values(), case.factors(), strict=True):
        assert_close(layer.input_moment / ROWS, a)
        assert_close(layer.output_moment / ROWS, b)


@pytest.mark.parametrize("name", PROBLEMS)
def test_eigenbases_diagonalize_the_factors(name) -> None:
    case = make(name)
    sums = case.sums()

    for layer, factors in zip(sums.layers.values(), case.factors(), strict=True):
        for moment, expected in zip((layer.input_moment, layer.output_moment), factors, strict=True):
            values, vectors = eigenbasis(moment, ROWS)
            assert_close(vectors @ torch.diag(values) @ vectors.T, expected)
            assert_close(vectors.T @ vectors, np.eye(len(expected)))
            assert (values.diff() >= 0).all()
            assert (values >= 0).all()


def test_rounding_below_zero_is_clamped() -> None:
    null = torch.ones(6, 6, dtype=torch.float64) / 3
    assert torch.linalg.eigvalsh(null).min() < 0, "expected a matrix whose rounded eigenvalues are negative"

    values, _ = eigenbasis(7 * null, 7)

    assert values.min() == 0
    assert_close(values[-1], np.array(2.0))


@pytest.mark.parametrize("name", PROBLEMS)
def test_spectrum_is_that_of_the_kronecker_product(name) -> None:
    case = make(name)
    sums = case.sums()

    for layer, (a, b) in zip(sums.layers.values(), case.factors(), strict=True):
        (out_values, out_basis), (in_values, in_basis) = (
            eigenbasis(moment, ROWS) for moment in (layer.output_moment, layer.input_moment)
        )
        spectrum = kronecker_spectrum(out_values, in_values)
        basis = torch.kron(out_basis, in_basis)
        assert spectrum.shape == (len(b), len(a))
        assert_close(basis @ torch.diag(spectrum.flatten()) @ basis.T, fisher.kfac(a, b))


@pytest.mark.parametrize("name", PROBLEMS)
def test_ekfac_spectrum_is_measured_in_the_eigenbasis(name) -> None:
    case = make(name)
    bases, found = case.bases(), case.spectra()
    gradients = mlp.mlp_class_gradients(case.passed)

    assert found.count == ROWS
    for (layer, spectrum), of_class in zip(found.layers.items(), gradients, strict=True):
        basis = np.kron(bases[layer].output.numpy(), bases[layer].input.numpy())
        expected = fisher.ekfac_spectrum(of_class, case.passed.probabilities, basis)
        assert_close(spectrum / ROWS, expected.reshape(spectrum.shape))


@pytest.mark.parametrize("name", PROBLEMS)
def test_ekfac_is_another_curvature_than_kfac(name) -> None:
    case = make(name)
    sums, spectra = case.sums(), case.spectra()

    for layer, moments in sums.layers.items():
        values = [eigenbasis(moment, ROWS)[0] for moment in (moments.output_moment, moments.input_moment)]
        difference = (spectra.layers[layer] / ROWS - kronecker_spectrum(*values)).abs()
        assert difference.max() > 1e-3 * values[0].max() * values[1].max()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, ROWS - 1), max_size=6), st.randoms(use_true_random=False))
def test_any_split_into_batches_gives_the_same_sums(cuts, random) -> None:
    case = make("two layers")
    edges = sorted({0, ROWS, *cuts})
    batches = [slice(*edge) for edge in pairwise(edges)]
    random.shuffle(batches)

    sums = reduce(KroneckerSums.merge, map(case.sums, batches))
    spectra = reduce(SpectrumSums.merge, map(case.spectra, batches))

    assert sums.count == spectra.count == ROWS
    whole, measured = case.sums(), case.spectra()
    for name, layer in sums.layers.items():
        assert_close(layer.input_moment, whole.layers[name].input_moment.numpy())
        assert_close(layer.output_moment, whole.layers[name].output_moment.numpy())
        assert_close(spectra.layers[name], measured.layers[name].numpy())


def test_merging_leaves_both_parts_as_they_were() -> None:
    case = make("softmax regression")
    parts = [case.sums(slice(10)), case.sums(slice(10, None))]
    held = [part.layers["0"].input_moment.clone() for part in parts]

    parts[0].merge(parts[1])

    assert [part.count for part in parts] == [10, ROWS - 10]
    assert all(torch.equal(part.layers["0"].input_moment, kept) for part, kept in zip(parts, held, strict=True))


class Pooled(nn.Module):
    """A layer at T positions, whose outputs are summed to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs).sum(dim=1)


def test_positions_are_averaged_in_inputs_and_summed_in_output_gradients() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((ROWS, 3, FEATURES))
    model = Pooled().double()
    weights = softmax.fold(*(parameter.detach().numpy() for parameter in model.layer.parameters()))
    a, b = np.zeros((FEATURES + 1, FEATURES + 1)), np.zeros((CLASSES, CLASSES))
    for example in softmax.with_ones(inputs.reshape(-1, FEATURES)).reshape(ROWS, 3, -1):
        probability = np.exp(softmax.log_probabilities_of((weights @ example.T).sum(axis=1)[None])[0])
        a += sum(np.outer(position, position) for position in example) / 3
        for label in range(CLASSES):
            delta = softmax.output_gradient(probability, label)
            # The logits are a sum over positions, so each position's output gradient is that of the logits.
            b += 3 * probability[label] * np.outer(delta, delta)

    found = kronecker_sums(subject_of(model, CLASSES), examples_of(torch.from_numpy(inputs)))

    assert_close(found.layers["layer"].input_moment, a)
    assert_close(found.layers["layer"].output_moment, b)


def test_sums_have_the_models_precision() -> None:
    case = make("two layers")
    single = kronecker_sums(subject_of(case.model.float(), CLASSES), examples_of(case.inputs.float()))

    for layer in single.layers.values():
        assert layer.input_moment.dtype == layer.output_moment.dtype == torch.float32


class Rooted(nn.Module):
    """Attention, or a layer at positions that are folded into the examples' axis, before a root's infinite slope."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.root, self.head = layer, Root(), nn.Linear(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        if isinstance(self.layer, nn.MultiheadAttention):
            sent = self.layer(inputs, inputs, inputs)[0]
        else:
            sent = self.layer(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        return self.head(self.root(sent).sum(dim=1))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Linear(FEATURES, FEATURES, bias=False),
        lambda: nn.MultiheadAttention(FEATURES, 2, bias=False, batch_first=True),
    ],
)
def test_an_example_whose_gradient_is_not_finite_is_named(layer) -> None:
    torch.manual_seed(0)
    inputs = torch.ones(5, 3, FEATURES, dtype=torch.float64)
    inputs[3] = 0

    with pytest.raises(NumericalError, match="found layer 'layer' at train example 2003 "):
        kronecker_sums(subject_of(Rooted(layer()).double(), CLASSES), examples_of(inputs, first_index=2000))

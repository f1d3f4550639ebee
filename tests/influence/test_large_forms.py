"""Scores of a model whose gradients are kept by positions and words are those of the same model's dense gradients."""

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import (
    Curvature,
    KroneckerBasis,
    LayerCurvature,
    influence,
    norms_of,
)
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.forms import FactoredGradients, LayerGradients
from relatif.pipeline.curvature.kronecker import eigenbasis, kronecker_spectrum, kronecker_sums, spectrum_sums
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.positions import PositionGradients, UnsummedGradients
from relatif.pipeline.curvature.precision import in_precision
from relatif.pipeline.curvature.sparse import SparseGradients
from relatif.pipeline.influence.contraction import contraction
from relatif.pipeline.influence.precision import FULL

torch.set_num_threads(1)

CLOSE = 1e-11
"""Relative: float64 sums of the same terms in another order."""

SINGLE = 1e-3
"""Relative: the same in float32, with a damping that inverts small eigenvalues."""


class Texts(nn.Module):
    """Words, a wide layer at every position, normalization, and a head on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.wide = nn.Embedding(40, 6, padding_idx=0), nn.Linear(6, 9)
        self.norm, self.head = nn.LayerNorm(9), nn.Linear(9, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.wide(self.words(tokens)).tanh()).mean(dim=1))


def subject() -> CoveredModel:
    torch.manual_seed(1)
    model = Texts().double().eval()
    return CoveredModel(model, coverage(model), Categorical(3), Fisher("exact"))


def texts(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 40, (count, 5), generator=generator)
    return Examples(tokens, torch.randint(0, 3, (count,), generator=generator), 0)


def curvature_of(model: CoveredModel, examples: Examples, *, measured: bool) -> Curvature:
    sums = kronecker_sums(model, examples)
    blocks = {}
    for name, layer in sums.layers.items():
        output, input_ = (eigenbasis(moment, sums.count) for moment in (layer.output_moment, layer.input_moment))
        blocks[name] = LayerCurvature(KroneckerBasis(output[1], input_[1]), kronecker_spectrum(output[0], input_[0]))
    if measured:
        bases = {name: KroneckerBasis(block.basis.output, block.basis.input) for name, block in blocks.items()}  # type: ignore[union-attr]
        spectra = spectrum_sums(model, examples, bases)
        blocks = {name: LayerCurvature(bases[name], spectra.layers[name] / sums.count) for name in bases}
    return Curvature(blocks, 0.01)


def gradients_of(model: CoveredModel, examples: Examples) -> dict[str, LayerGradients]:
    forward = forward_pass(model.model, examples.inputs, model.coverage)
    return forward.gradients(forward.backward(model.likelihood.gradient(forward.outputs.detach(), examples.targets)))


def scores(model: CoveredModel, *, measured: bool) -> tuple[list[type], dict[str, Tensor]]:
    """Return the forms of the gradients, and everything that is computed of them."""
    curvature = curvature_of(model, texts(12, 0), measured=measured)
    plain = gradients_of(model, texts(7, 1))
    test, train = curvature.rotate(gradients_of(model, texts(4, 2))), curvature.rotate(plain)
    weights = {name: curvature.inverse(name) for name in test}
    block = contraction(weights, test, norms_of(curvature, test).self_influence.sqrt(), FULL)
    norms = norms_of(curvature, train)
    found = {
        "influence": influence(curvature, test, train),
        "theta_norm": norms.theta,
        "self_influence": norms.self_influence,
        "tile": block.meet(train, norms.self_influence.sqrt()).tile(slice(None)).double(),
    }
    return [type(each) for each in plain.values()], {name: values.double() for name, values in found.items()}


@pytest.mark.parametrize("measured", [False, True])
def test_scores_do_not_depend_on_the_form(monkeypatch: pytest.MonkeyPatch, *, measured: bool) -> None:
    forms, expected = scores(subject(), measured=measured)
    assert forms == [UnsummedGradients, UnsummedGradients, FactoredGradients, FactoredGradients]
    monkeypatch.setattr("relatif.pipeline.curvature.gradients.HELD_ENTRIES", 0)
    monkeypatch.setattr("relatif.pipeline.curvature.forms.PART_ENTRIES", 50)
    monkeypatch.setattr("relatif.pipeline.curvature.sparse.PART_ENTRIES", 50)
    # A layer of 9 x 7 at 5 positions is smaller by its entries than by its factors.
    monkeypatch.setattr("relatif.pipeline.curvature.gradients._of_uses", PositionGradients)

    forms, found = scores(subject(), measured=measured)

    assert forms == [SparseGradients, PositionGradients, FactoredGradients, FactoredGradients]
    for name, values in found.items():
        allowed = 2e-6 if name == "tile" else CLOSE * float(expected[name].abs().max())
        assert float((values - expected[name]).abs().max()) <= allowed, name
    single = scores(in_precision(subject(), "float32", "cpu"), measured=measured)[1]
    for name, values in single.items():
        assert float((values - expected[name]).abs().max()) <= SINGLE * float(expected[name].abs().max()), name

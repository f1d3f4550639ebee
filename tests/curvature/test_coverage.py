"""What is covered of a model, what is refused by name, and what is said of the rest."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from relatif.pipeline.curvature.coverage import FROZEN, NOT_CHOSEN, coverage, coverage_text
from relatif.schemas.errors import ModelError


class Scaled(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs * self.scale)


class Doubling(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def half_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[0].bias.requires_grad_(False)
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "volume convolution": (lambda: nn.Sequential(nn.Conv3d(1, 2, 3), nn.Linear(4, 2)), "found 0.weight of Conv3d"),
    "bounded embedding": (lambda: nn.Embedding(4, 2, max_norm=1.0), "found weight of Embedding"),
    "bare parameter": (Scaled, "found scale of Scaled"),
    "recurrence": (lambda: nn.Sequential(nn.LSTM(4, 4), nn.Linear(4, 2)), "found 0.weight_ih_l0 of LSTM"),
    "subclass": (lambda: nn.Sequential(Doubling(4, 2)), "found 0.weight of Doubling"),
    "tied weights": (tied, "found 2.weight tied to 0.weight"),
    "half frozen": (half_frozen, r"layer '0' trainable or frozen as a whole, found \['bias'\] frozen"),
    "no layer": (lambda: nn.Sequential(nn.Flatten()), "trainable layers of Linear, .*found none"),
    "all frozen": (lambda: nn.Linear(4, 2).requires_grad_(False), "trainable layers of Linear, .*found none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_can_not_be_covered_is_refused_by_name(case) -> None:
    build, message = REFUSED[case]

    with pytest.raises(ModelError, match=message):
        coverage(build())


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5, bias=False)
    )


def test_every_parameter_is_counted_and_named() -> None:
    covered = coverage(network())

    assert covered.blocks == {"0.group0": (3, 19), "0.group1": (3, 19), "1": (1, 12), "4": (5, 24)}
    assert covered.covered_count == covered.total_count == 2 * 3 * 19 + 12 + 120
    assert {use.name: (use.count, use.reason) for use in covered.parameters} == {
        "0.weight": (108, "Kronecker factors"),
        "0.bias": (6, "Kronecker factors"),
        "1.weight": (6, "exact block"),
        "1.bias": (6, "exact block"),
        "4.weight": (120, "Kronecker factors"),
    }
    assert coverage_text(covered) == "246 of 246 parameters in 3 layer(s)"


def test_a_bias_may_be_all_that_is_trained_of_a_layer() -> None:
    model = network()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "0.bias")

    covered = coverage(model)

    assert covered.blocks == {"0": (6, 1)}
    assert {use.name: use.reason for use in covered.parameters if use.covered} == {"0.bias": "exact block"}
    assert covered.covered_count == 6
    model[1].bias.requires_grad_(True)
    with pytest.raises(ModelError, match=r"layer '1' trainable or frozen as a whole, found \['weight'\] frozen"):
        coverage(model)


def composed(how: Callable[[nn.Module], object]) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    how(model[0])
    return model


@pytest.mark.parametrize(
    ("how", "made_of"),
    [
        (spectral_norm, "0.weight made of 0.weight_orig"),
        (parametrizations.weight_norm, "0.weight made of 0.parametrizations.weight"),
        (parametrizations.orthogonal, "0.weight made of 0.parametrizations.weight"),
        (lambda layer: prune.l1_unstructured(layer, "weight", 3), "0.weight made of 0.weight_orig"),
        (lambda layer: prune.l1_unstructured(layer, "bias", 1), "0.bias made of 0.bias_orig"),
    ],
)
def test_a_weight_that_is_made_of_others_is_refused_by_name(how, made_of: str) -> None:
    with pytest.raises(ModelError, match=f"parameters of layer '0' to be its own, found {made_of}"):
        coverage(composed(how))


def test_a_parameter_that_a_layers_rule_does_not_know_is_refused() -> None:
    model = nn.Linear(3, 2)
    model.register_parameter("scale", nn.Parameter(torch.ones(2)))
    with pytest.raises(ModelError, match="layer '' to have a weight and a bias alone, found scale too"):
        coverage(model)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.LazyLinear(2), "parameters with a shape, found 0.weight of a lazy layer"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "trainable parameters of real numbers, found 0.weight of"),
    ],
)
def test_parameters_without_shape_and_complex_ones_are_refused(build, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        coverage(nn.Sequential(build()))


def test_a_tie_between_frozen_layers_is_no_matter() -> None:
    model = tied()
    model[0].weight.requires_grad_(False)
    assert coverage(model).covered_count == 8


def test_what_is_skipped_has_its_reason() -> None:
    model = network()
    model[0].requires_grad_(False)

    covered = coverage(model, ["0", "4"])

    assert list(covered.layers) == ["4"]
    assert {use.name: use.reason for use in covered.parameters if not use.covered} == {
        "0.weight": FROZEN,
        "0.bias": FROZEN,
        "1.weight": NOT_CHOSEN,
        "1.bias": NOT_CHOSEN,
    }
    assert coverage_text(covered) == f"120 of 246 parameters in 1 layer(s); 114 {FROZEN}; 12 {NOT_CHOSEN}"


def test_layers_are_chosen_by_pattern_and_what_no_rule_covers_may_be_left_out() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "mlp": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))})

    assert list(coverage(model, ["mlp.*"]).layers) == ["mlp.0", "mlp.1"]
    assert list(coverage(model, ["*.1"]).layers) == ["mlp.1"]
    with pytest.raises(ModelError, match=r"found rnn\.weight_ih_l0 of LSTM.*leave it out by curvature\.layers"):
        coverage(model)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"pattern 'head\*' of curvature.layers to match .*found 0, 1, 4; name one"):
        coverage(network(), ["4", "head*"])


def test_a_tie_to_a_layer_that_is_left_out_is_refused() -> None:
    with pytest.raises(ModelError, match=r"found 2\.weight tied to 0\.weight"):
        coverage(tied(), ["2"])

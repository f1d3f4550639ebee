"""What is covered of a model, what is refused by name, and what is said of the rest."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from relatif.pipeline.curvature.coverage import EXCLUDED, FROZEN, NOT_CHOSEN, coverage, coverage_text
from relatif.schemas.errors import ModelError


class Scaled(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs * self.scale)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def half_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[0].bias.requires_grad_(False)
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "bounded embedding": (lambda: nn.Embedding(4, 2, max_norm=1.0), "found weight of Embedding with max_norm"),
    "counted embedding": (lambda: nn.EmbeddingBag(4, 2, scale_grad_by_freq=True), "of EmbeddingBag with scale_grad_by"),
    "no layer": (lambda: nn.Sequential(nn.Flatten()), "model with trainable layers, found none"),
    "all frozen": (lambda: nn.Linear(4, 2).requires_grad_(False), "model with trainable layers, found none"),
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
    model[1].weight.requires_grad_(True)
    assert coverage(model).blocks == {"0": (6, 1), "1": (1, 6)}


def composed(how: Callable[[nn.Module], object]) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    how(model[0])
    return model


@pytest.mark.parametrize(
    ("how", "blocks"),
    [
        (spectral_norm, {"0.weight_orig": (4, 4), "0.bias": (1, 4)}),
        (
            parametrizations.weight_norm,
            {"0": (4, 1), "0.parametrizations.weight.original0": (1, 4), "0.parametrizations.weight.original1": (4, 4)},
        ),
        (lambda layer: prune.l1_unstructured(layer, "bias", 1), {"0": (4, 4), "0.bias_orig": (1, 4)}),
    ],
)
def test_what_a_weight_is_made_of_has_blocks_of_its_own(how, blocks: dict[str, tuple[int, int]]) -> None:
    found = coverage(composed(how), None, ["2"]).blocks
    assert found == blocks


def test_a_parameter_beside_weight_and_bias_has_a_block_of_its_own() -> None:
    model = nn.Linear(3, 2)
    model.register_parameter("scale", nn.Parameter(torch.ones(2)))
    assert coverage(model).blocks == {"": (2, 4), "scale": (1, 2)}
    assert coverage(Scaled()).blocks == {"scale": (1, 3), "head": (2, 4)}


def test_a_weight_without_its_bias_and_with_another_layer_has_a_block_without_one() -> None:
    assert coverage(half_frozen()).blocks == {"0": (4, 4), "2": (4, 5)}
    assert coverage(tied()).blocks == {"0": (4, 4), "0.bias": (1, 4), "2": (4, 1)}
    assert {use.name: use.reason for use in coverage(tied()).parameters} == {
        "0.weight": "Kronecker factors, shared with 2.weight",
        "0.bias": "exact block",
        "2.bias": "exact block",
    }


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
    assert coverage(tied()).total_count == 16 + 8


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


def test_layers_are_chosen_by_pattern_and_left_out_by_another() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "mlp": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))})

    assert list(coverage(model, ["mlp.*"]).layers) == ["mlp.0", "mlp.1"]
    assert list(coverage(model, ["*.1"]).layers) == ["mlp.1"]
    assert list(coverage(model, None, ["rnn", "*.1"]).layers) == ["mlp.0"]
    left = coverage(model, None, ["*weight_hh*", "mlp.?.bias"])
    assert left.blocks == {"rnn.ih_l0": (16, 4), "rnn.bias_hh_l0": (1, 16), "mlp.0": (4, 4), "mlp.1": (2, 4)}
    assert {use.name for use in left.parameters if use.reason == EXCLUDED} == {
        "rnn.weight_hh_l0",
        "mlp.0.bias",
        "mlp.1.bias",
    }


def test_a_layer_that_is_chosen_has_what_its_weight_is_made_of() -> None:
    model = composed(parametrizations.weight_norm)
    assert list(coverage(model, ["0"]).layers) == ["0", "0.parametrizations.weight"]


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"pattern 'head\*' of curvature.layers to match .*found 0, 1, 4; name one"):
        coverage(network(), ["4", "head*"])


def test_a_pattern_of_what_is_left_out_matches_layers_and_parameters() -> None:
    with pytest.raises(ModelError, match=r"pattern 'x' of curvature.exclude to match a layer .* or a parameter, found"):
        coverage(network(), None, ["4.weight", "x"])


def test_a_shared_weight_is_chosen_and_left_out_by_any_of_its_names() -> None:
    assert coverage(tied(), ["2"]).blocks == {"0": (4, 4), "2": (4, 1)}
    assert coverage(tied(), None, ["2.weight"]).blocks == {"0": (4, 1), "2": (4, 1)}

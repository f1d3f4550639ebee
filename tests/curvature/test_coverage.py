"""What is covered of a model, what is refused by name, and what is said of the rest."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

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

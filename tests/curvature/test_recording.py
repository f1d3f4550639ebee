"""Uses of parameters of every kind: gradients of each example against torch.func, or a refusal by name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.schemas.errors import ModelError
from tests.support.rows import check_rows, ready

torch.set_num_threads(1)

FEATURES = 5


class Wired(nn.Module):
    """Two linear layers, further parts and parameters, and a forward pass that is given."""

    def __init__(self, wire: Callable[["Wired", Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 3)
        for name, part in parts.items():
            setattr(self, name, part)
        self.wire = wire

    def forward(self, inputs: Tensor) -> Tensor:
        return self.wire(self, inputs)


def bare(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def twice(model: Wired, x: Tensor) -> Tensor:
    return model.head(model.first(model.first(x).tanh()).tanh())


def many(model: Wired, x: Tensor) -> Tensor:
    """Call a layer under different lengths."""
    return model.head(model.first(x).tanh().mean(dim=1) + model.first(x[:, :2]).sin().sum(dim=1) + model.first(x[:, 0]))


def tied(model: Wired, x: Tensor) -> Tensor:
    return model.head(model.second(model.first(x).tanh()).sin())


def tie(model: Wired) -> Wired:
    model.second.weight = model.first.weight
    return model


def outside(model: Wired, x: Tensor) -> Tensor:
    back = functional.linear(x, model.first.weight).tanh() @ model.first.weight
    turned = functional.linear(x, model.first.weight.T, model.first.bias)
    return model.head(
        model.first(x).tanh() + back + torch.addmm(model.first.bias, x, model.first.weight) + turned.sin()
    )


def cosine(model: Wired, x: Tensor) -> Tensor:
    return 4 * model.head(model.first(x).tanh()) / model.head.weight.norm(dim=1)


def contracted(model: Wired, x: Tensor) -> Tensor:
    return model.head(model.first(x).tanh() + torch.einsum("oi,ni->no", model.first.weight, x).sin())


def sliced(model: Wired, x: Tensor) -> Tensor:
    return model.head(functional.linear(x, model.first.weight[:2], model.first.bias[2:4]).repeat(1, 3)[:, :FEATURES])


def flattened(model: Wired, x: Tensor) -> Tensor:
    hidden = model.first(x.reshape(-1, FEATURES)) * model.scale
    return model.head(hidden.tanh().reshape(len(x), -1, FEATURES).mean(dim=1))


def token(model: Wired, x: Tensor) -> Tensor:
    whole = torch.cat([model.token.expand(len(x), -1, -1), x], dim=1) + model.places[:, : x.shape[1] + 1]
    return model.head(model.first(whole).tanh()[:, 0] * model.scale)


def prompted(model: Wired, x: Tensor) -> Tensor:
    """Pass bare parameters through a layer before they meet data, and copy them to every example."""
    prompt = model.first(model.token).tanh().expand(len(x), -1, -1) * 2
    return model.head(torch.cat([x, prompt], dim=1).mean(dim=1))


MATRIX = (4, FEATURES)
STEPS = (4, 3, FEATURES)

RIGHT: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "called twice": (lambda: Wired(twice), MATRIX),
    "under different lengths": (lambda: Wired(many), STEPS),
    "two layers with one weight": (lambda: tie(Wired(tied, second=nn.Linear(FEATURES, FEATURES))), MATRIX),
    "outside its call": (lambda: Wired(outside), MATRIX),
    "norm of a weight": (lambda: Wired(cosine), MATRIX),
    "einsum": (lambda: Wired(contracted), MATRIX),
    "slices": (lambda: Wired(sliced), MATRIX),
    "flattened positions": (lambda: Wired(flattened, scale=bare(FEATURES)), STEPS),
    "token, places, scale": (
        lambda: Wired(token, token=bare(1, 1, FEATURES), places=bare(1, 6, FEATURES), scale=bare(FEATURES)),
        STEPS,
    ),
    "prompt": (lambda: Wired(prompted, token=bare(1, 2, FEATURES)), STEPS),
    "added in place": (
        lambda: Wired(lambda m, x: m.head(m.first(x).add_(m.scale)), scale=bare(FEATURES)),
        MATRIX,
    ),
    "where": (
        lambda: Wired(lambda m, x: m.head(torch.where(x > 0, x, m.token) + m.first(x)), token=bare(FEATURES)),
        MATRIX,
    ),
    "temperature": (lambda: Wired(lambda m, x: m.head(m.first(x)) * m.scale.exp(), scale=bare()), MATRIX),
    "prelu": (lambda: Wired(lambda m, x: m.head(m.act(m.first(x))), act=nn.PReLU(FEATURES)), MATRIX),
    "one prelu": (lambda: Wired(lambda m, x: m.head(m.act(m.first(x))), act=nn.PReLU()), MATRIX),
    "bilinear": (
        lambda: Wired(lambda m, x: m.head(m.pairs(x, m.first(x).tanh())), pairs=nn.Bilinear(5, 5, 5)),
        MATRIX,
    ),
    "rms norm": (lambda: Wired(lambda m, x: m.head(m.norm(m.first(x))), norm=nn.RMSNorm(FEATURES)), MATRIX),
    "dict inside": (lambda: Wired(lambda m, x: m.head({"hidden": (m.first(x).sin(),)}["hidden"][0])), MATRIX),
}


@pytest.mark.parametrize("name", RIGHT)
def test_gradients_of_every_use_are_those_of_torch_func(name: str) -> None:
    build, shape = RIGHT[name]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_rows(ready(build()), inputs)
    check_rows(ready(build()), inputs[:1])


def composed(how: Callable[[nn.Module], object]) -> nn.Module:
    model = Wired(lambda m, x: m.head(m.first(x).tanh()))
    how(model.first)
    return model


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight.tanh()


@pytest.mark.parametrize(
    "how",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        torch.nn.utils.weight_norm,
        lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", Doubled()),
        lambda layer: prune.l1_unstructured(layer, "weight", 3),
    ],
)
def test_what_weights_are_made_of_is_explained(how: Callable[[nn.Module], object]) -> None:
    inputs = torch.randn(MATRIX, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_rows(composed(how).double().eval(), inputs)


class Called(nn.Module):
    """A layer of any kind on inputs [N, ...], and a head; cells go step by step."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: object = self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else None
        if isinstance(self.layer, nn.RNNCellBase):
            for step in x.unbind(1):
                found = self.layer(step, found)
        elif found is None:
            found = self.layer(x.argsort() if isinstance(self.layer, nn.EmbeddingBag) else x)
        sent = found[0] if isinstance(found, tuple) else found
        return self.head(sent.sin().flatten(1).sum(dim=1, keepdim=True))  # type: ignore[union-attr]


PARTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "linear": (lambda: nn.Linear(5, 3), (4, 5), ()),
    "conv1d": (lambda: nn.Conv1d(2, 4, 2, groups=2), (4, 2, 5), ()),
    "conv2d": (lambda: nn.Conv2d(2, 4, 2), (4, 2, 3, 3), ()),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2), (4, 2, 3, 3, 3), ()),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(2, 4, 2, groups=2), (4, 2, 5), ()),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(2, 4, 2), (4, 2, 3, 3), ()),
    "layer norm": (lambda: nn.LayerNorm(5), (4, 2, 5), ()),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 4, 3), ()),
    "batch norm 1d": (lambda: nn.BatchNorm1d(4), (4, 4, 3), ()),
    "batch norm 2d": (lambda: nn.BatchNorm2d(4), (4, 4, 3, 2), ()),
    "instance norm": (lambda: nn.InstanceNorm1d(4, affine=True), (4, 4, 3), ()),
    "rms norm": (lambda: nn.RMSNorm(5), (4, 2, 5), ()),
    "embedding bag": (lambda: nn.EmbeddingBag(5, 3), (4, 5), ()),
    "lstm": (lambda: nn.LSTM(5, 3, batch_first=True), (4, 2, 5), ("weight_ih", "weight_hh", "bias_ih")),
    "gru": (
        lambda: nn.GRU(5, 3, batch_first=True, bidirectional=True),
        (4, 2, 5),
        ("weight_ih", "bias_hh", "reverse", "_l0"),
    ),
    "lstm cell": (lambda: nn.LSTMCell(5, 3), (4, 2, 5), ("weight_hh", "bias_ih")),
    "gru cell": (lambda: nn.GRUCell(5, 3), (4, 2, 5), ("weight_ih", "bias_hh")),
    "rnn cell": (lambda: nn.RNNCell(5, 3), (4, 2, 5), ("weight_ih", "bias_hh")),
    "attention": (
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        (4, 2, 4),
        ("in_proj_weight", "in_proj_bias", "in_proj", "out_proj", "out_proj.weight", "out_proj.bias"),
    ),
}
"""Layers, the shape of their inputs, and parts of their parameters' names that may be frozen beside weight and bias."""


@pytest.mark.parametrize(
    ("name", "frozen"), [(name, part) for name in PARTS for part in ("weight", "bias", *PARTS[name][2])]
)
def test_weights_and_biases_may_be_frozen(name: str, frozen: str) -> None:
    make, shape, _ = PARTS[name]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = ready(Called(make()))
    names = [each for each, _ in model.layer.named_parameters()]
    for each, parameter in model.layer.named_parameters():
        parameter.requires_grad_(frozen not in each)
    found = check_rows(model, inputs)
    assert {each for each in found if each.startswith("layer.")} == {
        f"layer.{each}" for each in names if frozen not in each
    }


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mixed examples": (
        lambda: Wired(lambda m, x: m.head(torch.cdist(m.first.weight, x)[:FEATURES, :1].T.expand(len(x), -1))),
        r"first\.weight in cdist, .*curvature\.exclude = \['first\.weight'\]",
    ),
    "no axis of examples": (
        lambda: Wired(lambda m, x: m.head(m.first(torch.cat([x, x[:1]]))[: len(x)])),
        r"to have the 4 examples as first axis, found shape \[5, 1, 5\]; put the examples first",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_name(name: str) -> None:
    build, message = REFUSED[name]
    model = ready(build())
    with pytest.raises(ModelError, match=message):
        forward_pass(model, torch.randn(MATRIX, dtype=torch.float64), coverage(model))


def test_a_hook_on_a_weight_norm_of_old_is_explained() -> None:
    model = composed(spectral_norm).double().eval()
    inputs = torch.randn(MATRIX, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_rows(model, inputs)

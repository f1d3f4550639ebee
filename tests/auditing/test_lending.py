"""A lent model comes back as it was; a perturbation moves every trainable parameter, by a seed, and nothing else."""

import torch
from torch import nn

from relatif.pipeline.auditing.lending import lent, perturb
from tests.support import audited

torch.set_num_threads(1)


def model_of_many_kinds() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[2].requires_grad_(False)
    model[1].eval()
    return model


def state(model: nn.Module) -> list[object]:
    numbers = {name: (value.dtype, value.tolist()) for name, value in model.state_dict().items()}
    kinds = [(name, id(each), each.requires_grad) for name, each in model.named_parameters()]
    return [numbers, kinds, [module.training for module in model.modules()], [id(each) for each in model.parameters()]]


def test_a_lent_model_comes_back_as_it_was() -> None:
    model = model_of_many_kinds()
    model[1].train()
    before = state(model)
    with lent(model):
        model.double().eval().requires_grad_(True)
        perturb(model, seed=0)
        model[1].train()(torch.randn(8, 3, dtype=torch.float64))
        model.load_state_dict({name: torch.ones_like(value) for name, value in model.state_dict().items()})
        assert state(model) != before
    assert state(model) == before


def test_it_comes_back_after_an_error_too() -> None:
    model = audited.good()
    before = state(model)
    try:
        with lent(model):
            model.double()
            raise ValueError
    except ValueError:
        assert state(model) == before


def test_a_perturbation_moves_all_that_is_trained_by_its_seed() -> None:
    one, same, other = (model_of_many_kinds() for _ in range(3))
    for model in (same, other):
        model.load_state_dict(one.state_dict())
    before = {name: value.clone() for name, value in one.state_dict().items()}
    for model, seed in ((one, 0), (same, 0), (other, 1)):
        perturb(model, seed)
    moved = {name for name, value in one.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in one.state_dict().items())
    assert not torch.equal(one[0].weight, other[0].weight)


def test_a_parameter_without_numbers_stays_empty() -> None:
    layer = nn.Linear(3, 2)
    layer.weight = nn.Parameter(torch.zeros(2, 0))
    perturb(layer, seed=0)
    assert layer.weight.shape == (2, 0)


def test_zeros_are_moved_too() -> None:
    layer = nn.Linear(400, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    perturb(layer, seed=0)
    # So that outputs of inputs of size 1 are of size 0.1.
    assert 0.05 < float(layer(torch.ones(1, 400)).detach().norm()) < 1
    assert bool((layer.bias != 0).all())

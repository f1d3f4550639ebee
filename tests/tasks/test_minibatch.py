"""Training by minibatches: one step by hand, the optimum of a convex problem, equal bits for any number of threads."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.datasets.shards import StoredExamples
from relatif.pipeline.devices import Worker
from relatif.pipeline.parallel import ordered_map, single_threaded_pool
from relatif.pipeline.runs.training_sets import HeldTrainingSet
from relatif.pipeline.tasks.minibatch import adam, learning_rate_at, train_by_minibatches
from relatif.pipeline.tasks.task import Task, cross_entropy
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import ModelError, NumericalError

torch.set_num_threads(1)

Item = TypeVar("Item")
Result = TypeVar("Result")

ROWS, FEATURES, CLASSES = 90, 5, 3
FLOAT32 = 1e-6
"""Relative: float32 sums of a few dozen terms in another order."""
NEAR_OPTIMUM = 2e-3
"""Nats above the least objective: what 200 passes with a falling step size may leave."""


@dataclass(frozen=True)
class Examples:
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class InMemory:
    """A training set in shards, with a pool of threads."""

    shards: tuple[Examples, ...]
    threads: int = 1
    device: str = "cpu"

    @property
    def rows(self) -> int:
        return sum(len(shard.labels) for shard in self.shards)

    def batches(self, function: Callable[[Examples], Result]) -> Iterator[Result]:
        return self.map(function, self.shards)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        with single_threaded_pool(self.threads) as pool:
            yield from ordered_map(function, items, pool=pool, ahead=self.threads + 1)


def examples(*, shards: int = 3, threads: int = 1) -> InMemory:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(0, 255, (ROWS, FEATURES), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    parts = zip(inputs.tensor_split(shards), labels.tensor_split(shards), strict=True)
    return InMemory(tuple(Examples(*part) for part in parts), threads)


def scaled(inputs: Tensor) -> Tensor:
    return inputs.float() / 128 - 1


def linear() -> nn.Module:
    return nn.Linear(FEATURES, CLASSES)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES))


def convolutional() -> nn.Module:
    convolutions = nn.Conv2d(1, 2, (1, 2)), nn.Tanh(), nn.Conv2d(2, 4, (1, 2))
    return nn.Sequential(nn.Unflatten(1, (1, 1, FEATURES)), *convolutions, nn.Flatten(), nn.Linear(4 * 3, CLASSES))


def task_of(build: Callable[[], nn.Module], loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy) -> Task:
    return Task("small", CLASSES, build, scaled, loss, train_by_minibatches)


def train(build: Callable[[], nn.Module], data: InMemory, **settings: float) -> dict[str, Tensor]:
    task = task_of(build)
    return task.train(task, data, TrainConfig.model_validate(settings))


@pytest.mark.parametrize("build", [linear, convolutional])
def test_one_full_step_is_gradient_descent_with_weight_decay(build: Callable[[], nn.Module]) -> None:
    data = examples()
    found = train(build, data, epochs=1, batch_size=ROWS, learning_rate=0.5, weight_decay=0.3, momentum=0.0)

    torch.manual_seed(0)
    model = build().double()
    inputs = torch.cat([shard.inputs for shard in data.shards]).double() / 128 - 1
    labels = torch.cat([shard.labels for shard in data.shards])
    penalty = 0.3 / 2 * sum(parameter.square().sum() for parameter in model.parameters())
    (nn.functional.cross_entropy(model(inputs), labels) + penalty).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert found[name].is_contiguous()
        torch.testing.assert_close(
            found[name].double(), parameter.detach() - 0.5 * parameter.grad, rtol=FLOAT32, atol=FLOAT32
        )


@pytest.mark.parametrize("recipe", [train_by_minibatches, partial(train_by_minibatches, optimizer=adam)])
def test_a_convex_problem_is_solved(recipe: Callable[..., dict[str, Tensor]]) -> None:
    data, decay = examples(), 0.05
    settings = {"epochs": 200, "batch_size": 30, "learning_rate": 0.05, "weight_decay": decay}
    found = recipe(task_of(linear), data, TrainConfig.model_validate(settings))

    inputs = torch.cat([shard.inputs for shard in data.shards]).double() / 128 - 1
    labels = torch.cat([shard.labels for shard in data.shards])

    def objective(weight: Tensor, bias: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(inputs @ weight.T + bias, labels)
        return loss + decay / 2 * (weight.square().sum() + bias.square().sum())

    best = [torch.zeros(CLASSES, FEATURES).double().requires_grad_(), torch.zeros(CLASSES).double().requires_grad_()]
    optimizer = torch.optim.LBFGS(best, max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(*best)
        value.backward()
        return value

    optimizer.step(closure)
    least = objective(*best).detach()
    excess = float(objective(found["weight"].double(), found["bias"].double()) - least)
    assert -FLOAT32 < excess < NEAR_OPTIMUM


@pytest.mark.parametrize("build", [network, convolutional])
def test_threads_and_shards_change_no_bit_and_the_seed_does(build: Callable[[], nn.Module]) -> None:
    settings = {"epochs": 3, "batch_size": 20}
    first = train(build, examples(), **settings)
    again = train(build, examples(shards=7, threads=3), **settings)
    other = train(build, examples(), seed=1, **settings)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())
    assert {value.dtype for value in first.values()} == {torch.float32}


def test_training_leaves_torchs_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    train(network, examples(), epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rate_rises_and_falls() -> None:
    rates = [learning_rate_at(step, 50, 0.2) for step in range(50)]
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[27] == pytest.approx(0.2 * (1 + math.cos(math.pi * 23 / 46)) / 2)
    assert rates[-1] > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES)), r"found batch .*'1'"),
        (lambda: nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Dropout(0.5)), "found it to use .*random numbers"),
    ],
)
def test_what_would_depend_on_chance_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        train(build, examples(), epochs=1)


def test_a_loss_that_is_not_per_example_is_refused() -> None:
    task = task_of(linear, nn.functional.cross_entropy)
    with pytest.raises(ModelError, match=r"loss for each of 23 examples, found shape \[\]"):
        task.train(task, examples(), TrainConfig(epochs=1))


def test_a_loss_that_is_not_finite_is_named_by_epoch_and_step() -> None:
    def broken(outputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(outputs, labels) * float("nan")

    task = task_of(linear, broken)
    with pytest.raises(NumericalError, match=r"found nan in epoch 1, step 1 of 1; lower train\.learning_rate"):
        task.train(task, examples(), TrainConfig(epochs=1))


def test_training_tells_epoch_and_loss_and_how_far_it_is() -> None:
    told: list[tuple[float | None, str]] = []
    inputs, labels = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    task = Task("linear", 2, partial(nn.Linear, 3, 2), Tensor.float, cross_entropy, train_by_minibatches)
    config = TrainConfig(epochs=2, batch_size=20, learning_rate=0.0001)
    worker = Worker(1, tell=lambda share, text: told.append((share, text)))
    with worker.pool() as pool:
        data = HeldTrainingSet((StoredExamples(inputs, labels, 0),), worker, pool)
        state = train_by_minibatches(task, data, config)
    assert [share for share, _ in told] == [0.25, 0.5, 0.75, 1.0]
    model = nn.Linear(3, 2)
    model.load_state_dict(state)
    loss = float(cross_entropy(model(inputs), labels).mean().detach())
    # So small a step hardly changes the loss.
    assert [text.partition(", loss ")[0] for _, text in told] == ["epoch 1 of 2"] * 2 + ["epoch 2 of 2"] * 2
    assert float(told[-1][1].partition(", loss ")[2]) == pytest.approx(loss, rel=1e-2)


def test_stored_bytes_are_cast_where_the_model_reads_them_as_they_are() -> None:
    """The same as where ``model_inputs`` casts them: what scoring does with one tensor of bytes."""
    data = examples()
    assert data.shards[0].inputs.dtype == torch.uint8
    as_they_are, cast = (
        Task("bytes", CLASSES, linear, reading, cross_entropy, train_by_minibatches)
        for reading in (lambda stored: stored, Tensor.float)
    )
    config = TrainConfig(epochs=1, batch_size=20, learning_rate=1e-6)
    found, expected = train_by_minibatches(as_they_are, data, config), train_by_minibatches(cast, data, config)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

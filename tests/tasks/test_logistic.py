"""Logistic regression: what it computes, and that training ends at the only optimum, bit by bit the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.parallel import ordered_map, single_threaded_pool
from relatif.pipeline.tasks.logistic import LogisticRegression, mnist_logistic, share_of_descent, train_to_optimum
from relatif.pipeline.tasks.newton import NewtonRetraining
from relatif.pipeline.tasks.task import Task, cross_entropy
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import ModelError, NumericalError
from tests.reference import problems, softmax, training
from tests.reference.softmax import Array

torch.set_num_threads(1)

Result = TypeVar("Result")

AT_THE_OPTIMUM = 1e-5
"""Absolute, of parameters of order 1: whitened gradients are at most 1e-8, parameters are rounded to float32."""

TIGHT = 1e-8

EXCESS_LOSS = 1e-8
"""Nats: what the default tolerance may leave of the objective, of order the tolerance squared over the curvature."""

WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class Examples:
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class InMemory:
    """A training set in shards, passed over by a pool of threads."""

    shards: tuple[Examples, ...]
    threads: int = 1
    device: str = "cpu"

    @property
    def rows(self) -> int:
        return sum(len(shard.labels) for shard in self.shards)

    def batches(self, function: Callable[[Examples], Result]) -> Iterator[Result]:
        with single_threaded_pool(self.threads) as pool:
            yield from ordered_map(function, self.shards, pool=pool, ahead=self.threads + 1)


def in_memory(inputs: Tensor, labels: Tensor, *, shards: int = 3, threads: int = 1) -> InMemory:
    parts = zip(inputs.tensor_split(shards), labels.tensor_split(shards), strict=True)
    return InMemory(tuple(Examples(*part) for part in parts), threads)


def task_of(features: int, classes: int) -> Task:
    build = partial(LogisticRegression, features, classes)
    return Task("small", classes, build, torch.Tensor.double, cross_entropy, train_to_optimum)


@cache
def small() -> tuple[problems.SoftmaxProblem, Task, InMemory]:
    problem = problems.random_softmax(0, train=90, features=6, classes=4)
    data = in_memory(torch.from_numpy(problem.train_inputs), torch.from_numpy(problem.train_labels))
    return problem, task_of(6, 4), data


def block_of(state: dict[str, Tensor]) -> Array:
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in state.values())
    return softmax.fold(state["linear.weight"].numpy(), state["linear.bias"].numpy())


@pytest.mark.parametrize("weight_decay", [1e-1, 1e-3, 1e-4])
def test_training_ends_at_the_references_optimum(weight_decay) -> None:
    problem, task, data = small()
    expected = training.optimum(problem.train_inputs, problem.train_labels, 4, weight_decay=weight_decay)

    found = block_of(train_to_optimum(task, data, TrainConfig(weight_decay=weight_decay, tolerance=TIGHT)))

    # What is common to all classes changes no probability: weight decay alone holds it at zero, if weakly.
    common = found.mean(axis=0)
    np.testing.assert_allclose(found - common, expected, atol=AT_THE_OPTIMUM, rtol=0)
    np.testing.assert_allclose(common, 0, atol=AT_THE_OPTIMUM + 5 * TIGHT / weight_decay)


@pytest.mark.parametrize("weight_decay", [1e-2, 1e-4])
def test_the_default_tolerance_leaves_next_to_nothing_of_the_loss(weight_decay) -> None:
    problem, task, data = small()
    inputs, labels = problem.train_inputs, problem.train_labels
    best = training.optimum(inputs, labels, 4, weight_decay=weight_decay)

    found = block_of(train_to_optimum(task, data, TrainConfig(weight_decay=weight_decay)))

    losses = [training.objective(block, inputs, labels, weight_decay=weight_decay) for block in (found, best)]
    assert losses[0] - losses[1] <= EXCESS_LOSS


def test_badly_scaled_and_constant_inputs_are_no_obstacle() -> None:
    problem, task, _ = small()
    inputs = problem.train_inputs * np.array([1e3, 1, 1, 1e-2, 1, 0])
    data = in_memory(torch.from_numpy(inputs), torch.from_numpy(problem.train_labels))
    expected = training.optimum(inputs, problem.train_labels, 4, weight_decay=1e-1)

    found = block_of(train_to_optimum(task, data, TrainConfig(weight_decay=1e-1, tolerance=TIGHT)))

    np.testing.assert_allclose(found, expected, atol=AT_THE_OPTIMUM, rtol=0)


def test_the_optimum_does_not_depend_on_the_start_but_its_last_bits_do() -> None:
    _, task, data = small()
    config = TrainConfig(weight_decay=WEIGHT_DECAY, tolerance=1e-4)

    found = [block_of(train_to_optimum(task, data, replace_seed(config, seed))) for seed in (0, 0, 1)]

    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    tight = TrainConfig(weight_decay=WEIGHT_DECAY, tolerance=TIGHT, seed=1)
    np.testing.assert_allclose(
        block_of(train_to_optimum(task, data, tight)),
        block_of(train_to_optimum(task, data, replace_seed(tight, 0))),
        atol=AT_THE_OPTIMUM,
    )


def replace_seed(config: TrainConfig, seed: int) -> TrainConfig:
    return config.model_copy(update={"seed": seed})


def test_training_leaves_the_random_numbers_alone() -> None:
    _, task, data = small()
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)

    train_to_optimum(task, data, TrainConfig(weight_decay=WEIGHT_DECAY))

    assert torch.equal(torch.rand(4), expected)


def test_the_result_is_bitwise_the_same_for_any_number_of_threads() -> None:
    """At the size of MNIST's images, where a product that is split over threads would be rounded otherwise."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (240, 28, 28), np.uint8))
    labels = torch.from_numpy(rng.integers(0, 10, 240))
    config = TrainConfig(weight_decay=1e-1, tolerance=1e-3)

    one, *others = (
        train_to_optimum(mnist_logistic(), in_memory(images, labels, shards=8, threads=threads), config)
        for threads in (1, 2, 3)
    )

    for other in others:
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("iterations", [1, 3])
def test_too_few_iterations_are_an_error(iterations) -> None:
    _, task, data = small()
    config = TrainConfig(weight_decay=WEIGHT_DECAY, max_iterations=iterations)

    with pytest.raises(NumericalError, match=rf"{iterations} iterations; raise train\.max_iterations"):
        train_to_optimum(task, data, config)


def test_inputs_that_are_not_finite_are_an_error() -> None:
    _, task, data = small()
    broken = data.shards[0].inputs.clone()
    broken[0, 0] = float("nan")
    shards = (replace(data.shards[0], inputs=broken), *data.shards[1:])

    with pytest.raises(NumericalError, match="expected finite inputs"):
        train_to_optimum(task, InMemory(shards), TrainConfig(weight_decay=WEIGHT_DECAY))


def test_another_model_is_refused() -> None:
    _, task, data = small()
    other = replace(task, build_model=partial(nn.Linear, 6, 4))

    with pytest.raises(ModelError, match=r"expected a LogisticRegression.*found Linear"):
        train_to_optimum(other, data, TrainConfig())


def test_mnist_logistic_is_the_papers_model() -> None:
    task = mnist_logistic()
    pixels = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
    held = pixels.clone()
    model = task.build_model()

    inputs = task.model_inputs(pixels)
    logits = model(inputs)

    assert task.likelihood == Categorical(10)
    assert sum(parameter.numel() for parameter in model.parameters()) == 7850
    assert torch.equal(pixels, held)
    np.testing.assert_array_equal(inputs.numpy(), pixels.numpy().astype(np.float32) / np.float32(255))
    weight, bias = (parameter.detach().double() for parameter in (model.linear.weight, model.linear.bias))
    expected = inputs.double().flatten(1) @ weight.T + bias
    np.testing.assert_allclose(logits.detach().numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_share_of_a_descent_is_that_of_its_logarithm() -> None:
    assert share_of_descent([1e-1], 1e-5) == 0
    assert share_of_descent([1e-1, 1e-2, 1e-3], 1e-5) == pytest.approx(0.5)
    assert share_of_descent([1e-1, 1e-3, 1e-2], 1e-5) == pytest.approx(0.5), "a pass that went up takes nothing back"
    assert share_of_descent([1e-1, 1e-9], 1e-5) == 1
    assert share_of_descent([1e-6], 1e-5) is None
    assert share_of_descent([0.0], 1e-5) is None
    assert share_of_descent([float("nan")], 1e-5) is None


def test_class_weights_are_refused_as_it_does_not_train_with_them() -> None:
    weighted = Categorical(2, class_weights=(1.0, 2.0))
    task = Task("w", build_model=lambda: LogisticRegression(3, 2), train=train_to_optimum, likelihood=weighted)
    data = in_memory(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ModelError, match=r"plain cross-entropy .* found class weights or smoothed labels"):
        train_to_optimum(task, data, TrainConfig())
    with pytest.raises(ModelError, match="plain cross-entropy"):
        NewtonRetraining().prepare(task, data, TrainConfig(), {})

"""Retraining by Newton steps: the optimum that training from scratch reaches, bit by bit the same, or an error."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from relatif.pipeline.runs.training_sets import HeldTrainingSet
from relatif.pipeline.tasks import newton
from relatif.pipeline.tasks.logistic import train_to_optimum
from relatif.pipeline.tasks.newton import FACTOR, LAST_STEP, NewtonRetraining
from relatif.pipeline.tasks.retraining import leave_one_out_config
from relatif.pipeline.tasks.task import Task
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import ConfigurationError, ModelError, NumericalError
from tests.reference import problems, softmax, training
from tests.reference.softmax import Array
from tests.support.held import held
from tests.tasks.test_logistic import task_of

torch.set_num_threads(1)

FEATURES, CLASSES, TRAINING = 6, 4, 90
CONFIG = TrainConfig(weight_decay=1e-3)
REMOVED = (0, 31, 89)

TIGHT = 1e-8
NEAR = 2e-6
"""Of parameters of order 1: training from scratch leaves whitened gradients of TIGHT, over the root of curvatures from
1e-3 on, and rounds to float32."""


@cache
def problem() -> tuple[Task, Tensor, Tensor]:
    made = problems.random_softmax(0, train=TRAINING, features=FEATURES, classes=CLASSES)
    return task_of(FEATURES, CLASSES), torch.from_numpy(made.train_inputs), torch.from_numpy(made.train_labels)


def prepared(data: HeldTrainingSet, config: TrainConfig = CONFIG, tolerance: float = 1e-4) -> dict[str, Tensor]:
    task, _, _ = problem()
    trained = train_to_optimum(task, data, config.model_copy(update={"tolerance": tolerance}))
    return NewtonRetraining().prepare(task, data, config, trained)


def block_of(state: dict[str, Tensor]) -> Array:
    return softmax.fold(state["linear.weight"].double().numpy(), state["linear.bias"].double().numpy())


@pytest.mark.parametrize("row", REMOVED)
def test_without_an_example_it_ends_where_training_from_scratch_does(row: int) -> None:
    task, inputs, labels = problem()
    config = leave_one_out_config(CONFIG, TRAINING)
    with held(inputs, labels) as data:
        found = NewtonRetraining().run(task, data.without(row), config, prepared(data))
        tight = config.model_copy(update={"tolerance": TIGHT})
        scratch = train_to_optimum(task, data.without(row), tight)
        whole = NewtonRetraining().run(task, data, CONFIG, prepared(data))
    assert {value.dtype for value in found.values()} == {torch.float64}
    np.testing.assert_allclose(block_of(found), block_of(scratch), rtol=0, atol=NEAR)
    assert abs(block_of(found) - block_of(whole)).max() > 1000 * NEAR, "and that is not where it began"


@pytest.mark.parametrize("row", REMOVED)
@pytest.mark.parametrize("weight_decay", [1e-1, 1e-3])
def test_the_optimum_is_that_of_eq_5_where_the_other_weights_stay(row: int, weight_decay: float) -> None:
    task, inputs, labels = problem()
    whole = TrainConfig(weight_decay=weight_decay)
    with held(inputs, labels) as data:
        config = leave_one_out_config(whole, TRAINING)
        found = NewtonRetraining().run(task, data.without(row), config, prepared(data, whole))
    weights = np.full(TRAINING, 1 / TRAINING)
    weights[row] = 0
    expected = training.optimum(inputs.numpy(), labels.numpy(), CLASSES, weight_decay=weight_decay, weights=weights)
    np.testing.assert_allclose(block_of(found), expected, rtol=0, atol=LAST_STEP)


def test_the_same_set_gives_the_same_bits_whatever_the_threads() -> None:
    task, inputs, labels = problem()
    found = []
    for threads in (1, 1, 2, 3):
        with held(inputs, labels, shards=8, threads=threads) as data:
            start = prepared(data)
            found.append(start | NewtonRetraining().run(task, data, CONFIG, start))
    first, *others = found
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_a_hessian_that_has_become_useless_is_formed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    task, inputs, labels = problem()
    with held(inputs, labels) as data:
        start = prepared(data)
        expected = NewtonRetraining().run(task, data, CONFIG, start)
        formed: list[int] = []
        factorized = newton._factorized
        monkeypatch.setattr(newton, "_factorized", lambda *given: formed.append(1) or factorized(*given))
        far = start | {FACTOR: 30 * start[FACTOR], newton.THETA: start[newton.THETA] + 0.1}
        found = NewtonRetraining().run(task, data, CONFIG, far)
        assert len(formed) >= 1
        formed.clear()
        NewtonRetraining().run(task, data.without(3), CONFIG, start)
        assert formed == [], "an ordinary removal needs none"
    np.testing.assert_allclose(block_of(found), block_of(expected), rtol=0, atol=1e-9)


def test_what_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    task, inputs, labels = problem()
    with held(inputs, labels) as data:
        start = prepared(data)
        monkeypatch.setattr(newton, "MAX_STEPS", 2)
        with pytest.raises(NumericalError, match=r"at most 1e-09, found \S+ after 2 steps; raise train.weight_decay"):
            NewtonRetraining().run(task, data.without(0), CONFIG, start)


def test_values_that_are_not_finite_are_an_error() -> None:
    task, inputs, labels = problem()
    with held(inputs, labels) as data:
        start = prepared(data)
        broken = replace(data.shards[0], inputs=torch.full_like(data.shards[0].inputs, torch.nan))
        with pytest.raises(NumericalError, match="positive definite Hessian"):
            NewtonRetraining().run(task, replace(data, shards=(broken, *data.shards[1:])), CONFIG, start)


def test_without_weight_decay_there_is_no_single_optimum() -> None:
    task, inputs, labels = problem()
    none = TrainConfig(weight_decay=0)
    with held(inputs, labels) as data, pytest.raises(ConfigurationError, match=r"train\.weight_decay above 0"):
        NewtonRetraining().prepare(task, data, none, {})


def test_another_models_parameters_are_refused() -> None:
    task, inputs, labels = problem()
    with held(inputs, labels) as data, pytest.raises(ModelError, match=r"linear\.weight and linear\.bias.*\['head'\]"):
        NewtonRetraining().prepare(task, data, CONFIG, {"head": torch.zeros(1)})

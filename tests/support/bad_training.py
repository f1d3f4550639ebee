"""Tasks whose training fails or returns what it must not. Workers import them by name, so they lie in a module."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from relatif.pipeline.tasks.minibatch import train_by_minibatches
from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas.config import TrainConfig
from tests.support.images import minibatches

State = dict[str, Tensor]


class UntravelledError(Exception):
    """An error that can be neither pickled nor made anew from its arguments."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("no way")
        self.held = lambda: first + second


def _changed(change: Callable[[State], Any]) -> Task:
    def train(task: Task, data: TrainingSet, config: TrainConfig) -> Any:
        return change(train_by_minibatches(task, data, config))

    return replace(minibatches(), train=train)


def _raising(error: BaseException) -> Callable[[State], Any]:
    def change(_: State) -> Any:
        raise error

    return change


def returns_none() -> Task:
    return _changed(lambda _: None)


def returns_a_module() -> Task:
    return _changed(lambda _: minibatches().build_model())


def returns_other_names() -> Task:
    return _changed(lambda state: {f"model.{name}": value for name, value in state.items()})


def returns_another_shape() -> Task:
    return _changed(lambda state: {name: value[:-1] for name, value in state.items()})


def returns_nan() -> Task:
    return _changed(lambda state: {name: value * float("nan") for name, value in state.items()})


def returns_numpy() -> Task:
    return _changed(lambda state: {name: value.numpy() for name, value in state.items()})


def raises() -> Task:
    return _changed(_raising(ValueError("halfway\nthrough")))


def raises_what_cannot_travel() -> Task:
    return _changed(_raising(UntravelledError(1, 2)))


def exits() -> Task:
    return _changed(lambda _: sys.exit(0))


def is_a_generator() -> Task:
    def train(task: Task, data: TrainingSet, config: TrainConfig) -> Iterator[State]:
        yield train_by_minibatches(task, data, config)

    return replace(minibatches(), train=train)

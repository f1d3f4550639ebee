"""What a recipe returned, before anything is written: the state of the task's own model, finite number by number."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from relatif.pipeline.tasks.task import Task
from relatif.schemas.errors import ModelError, NumericalError

NAMED = 4
"""Names that an error lists at most."""


def checked_state(task: Task, state: object) -> dict[str, Tensor]:
    """Return what ``train`` returned if it is a state of the task's model with finite numbers, in the model's order.

    Raises ModelError for anything else than the model's names with dense tensors of its shapes, NumericalError for
    numbers that are not finite.
    """
    _check_kind(task, state)
    assert isinstance(state, Mapping)
    with torch.random.fork_rng(devices=[]):
        expected = task.build_model().state_dict()
    _check_names(task, state, expected)
    for name, value in expected.items():
        _check_tensor(task, name, state[name], value)
    broken = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise NumericalError(
            f"expected finite parameters after training, found {_listed(broken)} not to be; lower train.learning_rate, "
            f"or look at the task's train"
        )
    return {name: state[name].detach() for name in expected}


def _check_kind(task: Task, state: object) -> None:
    if isinstance(state, Mapping):
        return
    what = "the model itself" if isinstance(state, nn.Module) else type(state).__name__
    do = "return its state_dict()" if isinstance(state, nn.Module) else "end it with return model.state_dict()"
    raise ModelError(
        f"expected train of task {task.name!r} to return the model's parameters by their names, found {what}; {do}"
    )


def _check_names(task: Task, state: Mapping[str, object], expected: Mapping[str, object]) -> None:
    missing = [name for name in expected if name not in state]
    unknown = [str(name) for name in state if name not in expected]
    if missing or unknown:
        parts = (f"{_listed(names)} {what}" for names, what in ((missing, "missing"), (unknown, "unknown")) if names)
        raise ModelError(
            f"expected train of task {task.name!r} to return the names of build_model().state_dict(), found "
            f"{' and '.join(parts)}; train a model of build_model() and return its state_dict()"
        )


def _check_tensor(task: Task, name: str, found: object, expected: Tensor) -> None:
    if not isinstance(found, Tensor):
        raise ModelError(
            f"expected train of task {task.name!r} to return tensors, found {type(found).__name__} for {name}; turn it "
            f"into one with torch.as_tensor"
        )
    kinds = (found.is_floating_point(), found.is_complex())
    fits = found.shape == expected.shape and kinds == (expected.is_floating_point(), expected.is_complex())
    if not fits or found.layout != torch.strided:
        raise ModelError(
            f"expected train of task {task.name!r} to return {name} as {_described(expected)}, found "
            f"{_described(found)}; train a model of build_model() and return its state_dict()"
        )


def _described(value: Tensor) -> str:
    layout = "" if value.layout == torch.strided else f", {value.layout}"
    return f"{value.dtype} {list(value.shape)}{layout}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"

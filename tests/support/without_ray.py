"""Stages run in this process, without Ray: for tests of what reads finished runs, not of how these are made."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from relatif.pipeline.cluster.reduction import reduce_node, whole_nodes
from relatif.pipeline.cluster.session import Cluster, Resources
from relatif.pipeline.cluster.tasks import Telling
from relatif.pipeline.devices import Worker, tell_nobody
from relatif.schemas.config import ClusterConfig

STAGES, RUNS = "relatif.pipeline.stages", "relatif.pipeline.runs"


@contextmanager
def without_ray() -> Iterator[None]:
    """Compute what stages ask of the cluster where it is asked for."""
    calls = {"submit": submitted, "gather": list}
    more = {"share": itself, "value_of": itself, "wait": all_done, "watch_of": nothing}
    here = {
        f"{RUNS}.running": {"session": session},
        f"{RUNS}.durable": {"run_units": run_units},
        f"{RUNS}.stage": calls,
        f"{STAGES}.train": {"run_units": run_units},
        f"{STAGES}.score": calls,
        f"{STAGES}.statistics": calls,
        f"{STAGES}.exact_factors": calls | more,
        f"{STAGES}.kronecker_factors": calls | {"share": itself, "settle": settled, "reduce_shards": reduced},
    }
    taken = {name: {key: _quiet(value) for key, value in found.items()} for name, found in here.items()}
    with ExitStack() as stack:
        for name, found in taken.items():
            stack.enter_context(mock.patch.multiple(name, **found))
        yield


class Here(Cluster):
    """A cluster of one machine with two cores: this process."""

    def again(self) -> "Here":
        return self

    def cores(self) -> int:
        return self.resources.cpus


@dataclass(frozen=True)
class Several:
    """The values of a call that returns several."""

    values: list[Any]


@contextmanager
def session(config: ClusterConfig) -> Iterator[Here]:
    yield Here(config, Resources(nodes=1, cpus=2, gpus=0, node_cpus=2, address=""))


def submitted(function: Any, *args: Any, returns: int = 1, **_: Any) -> Any:
    told = isinstance(function, Telling)
    value = function.function(tell_nobody, *args) if told else function(*args)
    return Several(list(value)) if returns > 1 else value


def settled(tasks: Sequence[Any], **_: Any) -> list[Any]:
    return [value for task in tasks for value in (task.values if isinstance(task, Several) else [task])]


def reduced(compute: Callable[[range], Iterator[Any]], count: int, *_: Any, **__: Any) -> Any:
    (root,) = whole_nodes(0, count, count)
    return reduce_node(root, iter(compute(range(count))), count)


def run_units(work: Any, shape: Any, *, done: Callable[[Any], None], **_: Any) -> None:
    compute = work.build(Worker(shape.threads))
    for unit in work.units:
        done(compute(unit))


def itself(value: Any) -> Any:
    return value


def all_done(tasks: Sequence[Any], **_: Any) -> tuple[list[Any], list[Any]]:
    return list(tasks), []


def nothing(*_: Any, **__: Any) -> None:
    return None


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take the keywords of the cluster's own functions, which say how they are watched over."""
    return (lambda tasks, **_: list(tasks)) if function is list else function

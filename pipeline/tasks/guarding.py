"""A task's functions, so wrapped that what they raise and wrongly return is told as the user's, with file and line.

Functions of this project are not wrapped: they raise errors of their own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from relatif.pipeline.calls import called, described, is_ours
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
from relatif.schemas.errors import ModelError

Function = Callable[..., Any]
Parts = TypeVar("Parts")


@dataclass(frozen=True)
class Guarded:
    """A user's function, with what errors call it, what it is for, and the names of its arguments.

    Iterators that it returns are guarded too, as their code runs later.
    """

    function: Function
    name: str
    purpose: str
    arguments: tuple[str, ...] = ()

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call the function; raises TaskError for what it raises."""
        told = dict(zip(self.arguments, given, strict=False)) | named
        with called(self.name, self.purpose, told, defined=self.function):
            found = self.function(*given, **named)
        return self._iterated(found, told) if isinstance(found, Iterator) else found

    def _iterated(self, found: Iterator[Any], told: dict[str, Any]) -> Iterator[Any]:
        with called(self.name, self.purpose, told, defined=self.function):
            yield from found


@dataclass(frozen=True)
class GuardedBuild:
    """A task's ``build_model``: raises TaskError for what it raises, ModelError where it returns no module."""

    function: Function
    name: str

    def __call__(self) -> nn.Module:
        """Return the untrained model."""
        with called(self.name, "return the untrained model", defined=self.function):
            found = self.function()
        if not isinstance(found, nn.Module):
            raise ModelError(
                f"expected {self.name} to return an nn.Module, found {described(found)}; return the model itself"
            )
        return found


@dataclass(frozen=True)
class GuardedLoss:
    """A categorical task's ``loss``: raises TaskError for what it raises, ModelError where it returns no tensor."""

    function: Function
    name: str

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses."""
        given = {"outputs": outputs, "labels": targets}
        with called(self.name, "return a loss for each example", given, defined=self.function):
            found = self.function(outputs, targets)
        if not isinstance(found, Tensor):
            raise ModelError(
                f"expected {self.name} to return a tensor of one loss for each example, found {described(found)}; "
                f"return the losses as a tensor [N] that torch can differentiate"
            )
        return found


class GuardedParts:
    """A user's object, such as a likelihood or a way to retrain, each of whose methods is guarded."""

    def __init__(self, inner: object, name: str) -> None:
        """Take the object and what errors call it."""
        self._inner, self._name = inner, name

    def __getattr__(self, attribute: str) -> Any:
        """Return the object's attribute; a function is guarded."""
        if attribute.startswith("_"):  # also while a copy is made, which has no object yet
            raise AttributeError(attribute)
        with called(f"{attribute} of {self._name}", "be there"):
            try:
                found = getattr(self._inner, attribute)
            except AttributeError:
                # Whether a method is there may be asked for; what a property raises is the user's.
                if hasattr(type(self._inner), attribute):
                    raise
                found = _MISSING
        if found is _MISSING:
            raise AttributeError(f"{type(self._inner).__name__} has no attribute {attribute!r}")
        name = f"{attribute} of {self._name}"
        return Guarded(found, name, "work", _names(found)) if callable(found) else found

    def __repr__(self) -> str:
        """Return how the object shows itself."""
        return repr(self._inner)


_MISSING = object()


def guarded_loss(loss: Function, task: str) -> Function:
    """Return a loss whose errors are told as the user's."""
    return loss if is_ours(loss) else GuardedLoss(loss, f"the loss of task {task!r}")


def guarded_likelihood(likelihood: Likelihood, task: str) -> Likelihood:
    """Return a likelihood whose errors, or whose loss's, are told as the user's."""
    if isinstance(likelihood, Categorical):
        return replace(likelihood, loss=guarded_loss(likelihood.loss, task))
    name = f"{type(likelihood).__name__}, the likelihood of task {task!r}"
    return guarded_parts(likelihood, name)


def guarded_parts(parts: Parts, name: str) -> Parts:
    """Return a user's object whose methods' errors are told as the user's."""
    return parts if is_ours(type(parts)) else cast(Parts, GuardedParts(parts, name))


def _names(function: Function) -> tuple[str, ...]:
    """Return the names of a bound method's arguments, none where they can't be known."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    names: tuple[str, ...] = () if code is None else code.co_varnames[: code.co_argcount]
    return names[1:] if hasattr(function, "__self__") else names

"""Calls of functions that users wrote: what they raise is told as theirs, in one line with file and line.

An exception of the user's class may not be importable or picklable elsewhere, so only text of it travels.
"""

import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import unwrap
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from relatif.pipeline.inputs import Inputs, count, named
from relatif.schemas.errors import ModelError, RelatifError, TaskError

PROJECT = "relatif"
ROWS = "rows"
"""Name under which a call's rows are given, as text."""

LOGITS = "logits"
"""Name of the outputs in the dict or ModelOutput of a Hugging Face model."""

RETURN_OUTPUTS = "return the outputs alone, one row for each example"

LONGEST_MESSAGE = 500
"""Characters of a user's message that an error repeats; ``--debug`` shows all of it."""

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@contextmanager
def called(
    function: str,
    purpose: str,
    given: Mapping[str, object] | None = None,
    *,
    defined: object = None,
    passed: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Raise TaskError for what a call of a user's function raises in this block, and for ``sys.exit`` there.

    ``function`` and ``purpose`` complete "expected ... to ..."; ``given`` is what it was called on, by name.
    ``defined`` is the function itself, whose place is told where the call did not reach a line of its own. Errors of
    this project, those of the types ``passed``, and interruptions pass.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, (RelatifError, *passed)):
            raise
        on = ", ".join(f"{name} {value if name == ROWS else described(value)}" for name, value in (given or {}).items())
        raise TaskError(
            f"expected {function} to {purpose}, found {raised(error)}{_place(error, defined)}"
            f"{f' (called on {on})' if on else ''}; correct that function, --debug shows the whole traceback"
        ) from error


def run_model(model: nn.Module, inputs: Inputs, *, first_index: int | None = None) -> Tensor:
    """Return a user's model's outputs [N, ...] for inputs [N, ...], rows from ``first_index`` on.

    The model is called on a tensor, on the tensors of a tuple by position, or on those of a dict by name. Of what it
    returns the outputs are the tensor itself, ``logits`` by that name, or the only tensor of N rows in a tuple or dict.
    Raises TaskError for what its forward raises, ModelError where it returns no such tensor of N rows, or several.
    """
    name = f"the forward pass of the model {type(model).__name__}"
    given = {**_named(inputs), **_rows(first_index, count(inputs))}
    with called(name, "return outputs", given, defined=type(model).forward):
        outputs: object = _call(model, inputs)
    return _rows_of(inputs, _outputs_in(outputs, count(inputs), name), name, RETURN_OUTPUTS)


def run_backward(
    outputs: Tensor, nodes: Sequence[Tensor], gradient: Tensor, *, keep_graph: bool
) -> tuple[Tensor | None, ...]:
    """Return the gradients at nodes of a user's model's graph, None where its outputs don't depend on one.

    Raises TaskError for what a function of the user's raises there, and for a graph that can't be differentiated.
    """
    given = {"gradient": gradient}
    with called("the backward pass of the model", "return gradients", given, passed=(torch.OutOfMemoryError,)):
        # As the gradient of one number, which is the same bit by bit: given apart, a gradient makes torch load what
        # symbolic shapes need, half a second in every process.
        with torch.enable_grad():
            product = outputs.reshape(-1).dot(gradient.detach().to(outputs.dtype).reshape(-1))
        return torch.autograd.grad(product, nodes, retain_graph=keep_graph, allow_unused=True)


def read_inputs(model_inputs: Callable[[Any], Inputs], stored: Inputs, *, first_index: int | None = None) -> Inputs:
    """Return stored inputs [N, ...] as a user's ``model_inputs`` gives them to the model; raises as ``run_model``."""
    rows = count(stored)
    name, given = "the task's model_inputs", {**_named(stored), **_rows(first_index, rows)}
    with called(name, "turn stored inputs into what the model reads", given, defined=model_inputs):
        inputs: object = model_inputs(stored)
    advice = "return a torch tensor with one row for each example"
    if not isinstance(inputs, tuple | list | Mapping):
        return _rows_of(stored, inputs, name, advice)
    advice += ", or a tuple or dict of such tensors"
    if isinstance(inputs, Mapping):
        return {str(key): _rows_of(stored, value, f"{name}[{key!r}]", advice) for key, value in inputs.items()}
    return tuple(_rows_of(stored, value, f"{name}[{place}]", advice) for place, value in enumerate(inputs))


def _call(model: nn.Module, inputs: Inputs) -> object:
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def _outputs_in(found: object, rows: int, name: str) -> object:
    """Return the outputs in what a model returned; ModelError where they can't be told from other batches in it."""
    if isinstance(found, Tensor):
        return found
    logits = found.get(LOGITS) if isinstance(found, Mapping) else getattr(found, LOGITS, None)
    if isinstance(logits, Tensor):
        return logits
    values = (
        found.items() if isinstance(found, Mapping) else enumerate(found) if isinstance(found, tuple | list) else ()
    )
    batches = {key: each for key, each in values if isinstance(each, Tensor) and each.ndim and len(each) == rows}
    if len(batches) > 1:
        each = ", ".join(f"{key!r}: {described(value)}" for key, value in batches.items())
        raise ModelError(
            f"expected {name} to return one batch of outputs, found {len(batches)} ({each}); explain a module that "
            f"calls this one and returns the outputs that the loss is made of (a model of pairs, such as an image and "
            f"a text encoder whose loss compares the examples of a batch, has no loss of one example)"
        )
    return next(iter(batches.values())) if batches else found


def _named(inputs: Inputs) -> dict[str, object]:
    return {f"inputs{name}": tensor for name, tensor in named(inputs).items()}


def _rows(first: int | None, number: int) -> dict[str, str]:
    return {} if first is None else {ROWS: f"{first} to {first + number - 1}"}


def _rows_of(given: Inputs, found: object, name: str, advice: str) -> Tensor:
    rows = count(given)
    if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != rows:
        each = ", ".join(f"{key} {described(value)}" for key, value in _named(given).items())
        raise ModelError(
            f"expected {name} to return a tensor with the {rows} examples as first axis, found "
            f"{described(found)} for {each}; {advice}"
        )
    return found


def described(value: Any) -> str:
    """Return in a few words what a value is: dtype and shape of a tensor, a number itself, the type of others.

    >>> described(Tensor([[1, 2, 3], [4, 5, 6]])), described(7), described([1]), described({"a": 1})
    ('float32 [2, 3]', '7', 'list', "dict with keys ['a']")
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, int | float | None):
        return repr(value)
    if isinstance(value, str):
        return f"str {value[:LONGEST_MESSAGE]!r}"
    if isinstance(value, dict):
        return f"dict with keys {sorted(map(str, value))[:9]}"
    return f"the class {value.__name__}" if isinstance(value, type) else _kind(value)


def raised(error: BaseException) -> str:
    """Return an exception's type and message in one line."""
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - its own __str__ may fail, too
        message = "a message that can't be shown"
    cut = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}..."
    return f"{type(error).__name__}: {cut}" if cut else type(error).__name__


def unforeseen(error: BaseException) -> str:
    """Return in one line an error that nobody expected, with the place where it was raised."""
    inner = getattr(error, "cause", None)  # of an error on a worker
    found = inner if isinstance(inner, BaseException) else error
    return (
        f"expected no error but those that are foreseen, found {raised(found)}{_place(found, None)}; --debug shows the "
        f"whole traceback: correct what is yours in it, and report the rest"
    )


def is_ours(function: object) -> bool:
    """Return whether a function, class or partial is this project's own."""
    inner: Any = getattr(function, "func", function)
    return _below_project(str(getattr(inner, "__module__", None) or type(inner).__module__))


def _kind(value: Any) -> str:
    """Return an object's type, and the size of what has one."""
    name = type(value).__name__
    if isinstance(getattr(value, "rows", None), int):
        return f"{name} of {value.rows:,} rows"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return name
    return f"{type(value).__module__.partition('.')[0]}.{name} {dtype} {list(shape)}"


def _place(error: BaseException, defined: object) -> str:
    """Return where it was raised: the user's innermost line, else a library's, else where the function is defined."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _is_projects(frame)]
    users = [(frame, line) for frame, line in frames if not _is_librarys(frame)]
    if users or frames:
        frame, line = (users or frames)[-1]
        return f" at {frame.f_code.co_filename}:{line}"
    inner: Any = unwrap(getattr(defined, "func", defined)) if callable(defined) else None
    code = getattr(inner, "__code__", None) or getattr(getattr(inner, "__init__", None), "__code__", None)
    return "" if code is None else f" at {code.co_filename}:{code.co_firstlineno}"


def _is_projects(frame: FrameType) -> bool:
    return _below_project(str(frame.f_globals.get("__name__", "")))


def _is_librarys(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in sys.stdlib_module_names or frame.f_code.co_filename.startswith(_LIBRARIES)


def _below_project(module: str) -> bool:
    return module == PROJECT or module.startswith(f"{PROJECT}.")

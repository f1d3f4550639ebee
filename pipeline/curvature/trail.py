"""What a forward pass calls, as far as it tells whether rows may stand in others' places.

Axes: N examples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ALONG = {"index_select": None, "gather": None, "take_along_dim": None, "sort": -1, "topk": -1}
"""Functions that pick places along an axis by values, with the axis where none is given; None: it has to be."""

ANYWHERE = frozenset(
    [f"{name}{end}" for name in ("index_add", "index_copy", "index_put", "masked_scatter") for end in ("", "_")]
    + [f"scatter{what}{end}" for what in ("", "_add", "_reduce") for end in ("", "_")]
    + ["take", "masked_select", "_pack_padded_sequence"]
)
"""Functions that pick places by values, on whatever axis."""

DECIDING = ("__bool__", "__int__", "__index__", "item")
"""Functions by which values decide what a model goes on to do."""


@dataclass
class Trail:
    """What a pass over N = ``examples`` called. ``signature`` tells passes apart that differ in what they call.

    ``picked`` says that entries of first axes were picked by values, in which equal passes may differ.
    """

    examples: int
    signature: int
    picked: bool = False

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note of a call: of the function, shapes and whole numbers, and of what values decide."""
        name = getattr(func, "__name__", "")
        decided = func(*args, **kwargs) if name in DECIDING else None
        told = (name, _plain(args), _plain(kwargs), None if isinstance(decided, float) else decided)
        self.signature = hash((self.signature, told))
        self.picked = self.picked or picks_rows(func, args, kwargs, self.examples)


def picks_rows(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], examples: int) -> bool:
    """Whether a function picks or moves entries of the first axis by values, so that a row may be another example's."""
    name = getattr(func, "__name__", "")
    if name in ("__getitem__", "__setitem__"):
        return _indexes_rows(args[0], args[1], examples)
    if name in ALONG:
        given = kwargs["dim"] if "dim" in kwargs else next((each for each in args[1:] if isinstance(each, int)), None)
        axis = ALONG[name] if given is None or (name == "topk" and "dim" not in kwargs) else given
        ndim = args[0].ndim if args and isinstance(args[0], Tensor) else 1
        return axis is None or axis % max(1, ndim) == 0
    return name in ANYWHERE


def _plain(value: Any) -> Any:
    """Return what tells calls apart of arguments: shapes and whole numbers; of real ones nothing depends but values."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return tuple((key, _plain(each)) for key, each in value.items())
    if isinstance(value, slice):
        return value.start, value.stop, value.step
    return value if isinstance(value, int | str | None) else None


def _indexes_rows(values: Tensor, index: Any, examples: int) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    if not any(isinstance(part, Tensor | list) for part in parts):
        return False
    first = parts[0]
    if isinstance(first, slice):
        return first != slice(None)
    if first is Ellipsis:
        return values.ndim < len(parts)
    # Every row in its order, as where each example's last token is taken.
    if not isinstance(first, Tensor) or first.shape[:1] != (examples,) or first.dtype in (torch.bool, torch.uint8):
        return True
    return not bool((first.reshape(examples, -1) == torch.arange(examples).to(first)[:, None]).all())

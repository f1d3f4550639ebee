"""How each of torch's functions uses parameters: what is recorded where they meet data.

Axes: N examples, T positions. A function that is not listed is run example by example, each with a copy of the
parameters, where that gives the same outputs; else it is refused by name.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from relatif.pipeline.curvature.attention import record_attention
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.matrices import (
    Product,
    Window,
    lookups,
    record_convolution,
    record_lookup,
    record_product,
    record_transposed,
)
from relatif.pipeline.curvature.meetings import (
    broadcast,
    concatenated,
    is_broadcast,
    one_by_one,
    only_shape,
    record_norm,
)
from relatif.pipeline.curvature.places import BlockUse
from relatif.pipeline.curvature.recording import ParameterRoot, Recorder, Root, refusal
from relatif.pipeline.curvature.recurrence import RECURRENCES, record_recurrence
from relatif.schemas.errors import ModelError

Args = tuple[Any, ...]
Named = dict[str, Any]


def recorder_of(model: nn.Module, covered: Coverage, count: int) -> Recorder:
    """Return what records a forward pass over N = ``count`` examples while it is active."""
    return Recorder(model, covered, count, _meet, _root)


def _meet(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    name = getattr(func, "__name__", "")
    handler = _BY_FUNCTION.get(func) or _BY_NAME.get(name)
    if handler is not None:
        found = handler(recorder, func, args, kwargs)
        if found is not NotImplemented:
            return found
    if only_shape(recorder, name, args):
        return func(*args, **kwargs)
    if name in RECURRENCES:
        return record_recurrence(recorder, func, args, kwargs)
    if is_broadcast(name):
        found = broadcast(recorder, func, args, kwargs)
        if found is not NotImplemented:
            return found
    return one_by_one(recorder, func, args, kwargs)


def _bound(names: str, args: Args, kwargs: Named) -> Named:
    return {**dict.fromkeys(names.split()), **dict(zip(names.split(), args, strict=False)), **kwargs}


def _linear(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = _bound("input weight bias", args, kwargs)
    product = Product(recorder, given["weight"], given["bias"], by_rows=True)
    if not recorder.is_data(given["input"]) or _with_data(recorder, given["weight"], given["bias"]):
        return NotImplemented
    return record_product(recorder, product, func(*args, **kwargs), given["input"])


def _matmul(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    one, other = (*args, *kwargs.values())[:2]
    if not recorder.is_data(one) or other.ndim != 2 or _with_data(recorder, other, None):
        return NotImplemented
    return record_product(recorder, Product(recorder, other, None, by_rows=False), func(*args, **kwargs), one)


def _addmm(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = _bound("input mat1 mat2", args, kwargs)
    plain = given.get("beta", 1) == given.get("alpha", 1) == 1
    if not plain or not recorder.is_data(given["mat1"]) or _with_data(recorder, given["mat2"], given["input"]):
        return NotImplemented
    if given["input"].shape != given["mat2"].shape[1:]:
        return NotImplemented
    product = Product(recorder, given["mat2"], given["input"], by_rows=False)
    return record_product(recorder, product, func(*args, **kwargs), given["mat1"])


def _with_data(recorder: Recorder, weight: object, bias: object) -> bool:
    return recorder.is_data(weight) or recorder.is_data(bias)


def _convolution(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = _bound("input weight bias stride padding dilation groups", args, kwargs)
    seen, weight, groups = given["input"], given["weight"], given["groups"] or 1
    if not recorder.is_data(seen) or _with_data(recorder, weight, given["bias"]) or seen.ndim != weight.ndim:
        return NotImplemented
    product = Product(recorder, weight, given["bias"], by_rows=True)
    size = weight.ndim - 2
    kernel = tuple(weight.shape[2:])
    stride, dilation = _tuple(given["stride"], 1, size), _tuple(given["dilation"], 1, size)
    pads = _pads(given["padding"], kernel, dilation)
    # Padded first, as unfold itself knows only equal zeros on both sides.
    padded = functional.pad(seen.detach(), pads)
    folding = int(product.folded)
    if size <= 2:
        padded = padded[:, :, None] if size == 1 else padded
        # unfold wants two axes: the first has length 1 here.
        ones = (1,) * (2 - size)
        patches = functional.unfold(padded, (*ones, *kernel), dilation=(*ones, *dilation), stride=(*ones, *stride))
        # A patch lists its values channel by channel, so those of a group are consecutive.
        parts = patches.unflatten(1, (groups, -1)).unbind(dim=1)
        # The bias's row of ones is added before the transposition, which then stays a view.
        kept = [functional.pad(part, (0, 0, 0, folding), value=1).transpose(1, 2) for part in parts]
    else:
        parts = Window(kernel, stride, (0,) * size, dilation).patches(padded, groups)
        kept = [functional.pad(part, (0, folding), value=1) for part in parts]
    return record_convolution(recorder, product, func(*args, **kwargs), kept, groups)


def _transposed(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = _bound("input weight bias stride padding output_padding groups dilation", args, kwargs)
    seen, weight, groups = given["input"], given["weight"], given["groups"] or 1
    if not recorder.is_data(seen) or _with_data(recorder, weight, given["bias"]) or seen.ndim != weight.ndim:
        return NotImplemented
    size = weight.ndim - 2
    lengths = [_tuple(given[name], least, size) for name, least in (("stride", 1), ("padding", 0), ("dilation", 1))]
    product = Product(recorder, weight, given["bias"], by_rows=False)
    window = Window(tuple(weight.shape[2:]), *lengths)
    return record_transposed(recorder, product, func(*args, **kwargs), seen, window, groups)


def _tuple(value: Any, default: int, size: int) -> tuple[int, ...]:
    if value is None:
        return (default,) * size
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * size if len(values) == 1 else values


def _pads(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """Return the padding as ``functional.pad`` wants it: last axis first, before and after."""
    pads: list[int] = []
    given = (0,) * len(kernel) if padding in ("same", "valid") else _tuple(padding, 0, len(kernel))
    for length, apart, pad in reversed(list(zip(kernel, dilation, given, strict=True))):
        # An odd number of zeros: torch puts the extra one behind.
        total = apart * (length - 1) if padding == "same" else 2 * pad
        pads += [total // 2, total - total // 2]
    return pads


class _Rows:
    """Rows that were looked up in a covered parameter at ids that no example decides."""

    def __init__(self, recorder: Recorder, weight: Tensor, ids: Tensor, padding: int | None) -> None:
        self._recorder, self._weight, self._ids, self._padding = recorder, weight, ids, padding

    @property
    def blocks(self) -> frozenset[str]:
        return self._recorder.blocks(self._weight)

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        return self._factors(gradient, self._ids.reshape(1, -1).expand(len(gradient), -1))

    def aligned(self, gradient: Tensor) -> Iterator[BlockUse] | None:
        fits = len(self._ids) == len(gradient) == self._recorder.count
        return self._factors(gradient, self._ids.reshape(len(gradient), -1)) if fits else None

    def _factors(self, gradient: Tensor, ids: Tensor) -> Iterator[BlockUse]:
        rows = lookups(ids, len(self._weight), self._weight, self._padding)
        product = Product(self._recorder, self._weight, None, by_rows=False)
        return product.factors([gradient.reshape(*ids.shape, -1)], [rows])


def _root(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Root | None:
    """Return the root of rows that are looked up in a parameter at ids that no example decides; else None."""
    if func is not functional.embedding:
        return None
    given = _looked_up(recorder, func, args, kwargs)
    known = recorder.known(given["weight"])
    if known is None or not isinstance(known.root, ParameterRoot):
        return None
    return _Rows(recorder, given["weight"], given["input"], given["padding_idx"])


def _looked_up(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Named:
    given = _bound("input weight padding_idx max_norm norm_type scale_grad_by_freq sparse", args, kwargs)
    if given["max_norm"] is not None or given["scale_grad_by_freq"]:
        names = recorder.parameters_in(given["weight"])
        raise refusal(names, func, "which changes it or its gradient by the rest of a batch")
    return given


def _embedding(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = _looked_up(recorder, func, args, kwargs)
    ids, weight = given["input"], given["weight"]
    if _with_data(recorder, weight, None) or ids.ndim == 0:
        return NotImplemented
    output = func(*args, **kwargs)
    if len(ids) % recorder.count:
        return NotImplemented
    rows = lookups(ids.reshape(recorder.count, -1), len(weight), weight, given["padding_idx"])
    return record_lookup(recorder, weight, output, rows)


def _embedding_bag(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    names = "input weight offsets max_norm norm_type scale_grad_by_freq mode sparse per_sample_weights"
    given = {"mode": "mean", **_bound(f"{names} include_last_offset padding_idx", args, kwargs)}
    ids, weight, own = given["input"], given["weight"], given["per_sample_weights"]
    if given["max_norm"] is not None or given["scale_grad_by_freq"]:
        raise refusal(recorder.parameters_in(weight), func, "which changes it or its gradient by the rest of a batch")
    if ids.ndim != 2 or given["mode"] == "max" or len(ids) != recorder.count or recorder.is_covered(own):
        return NotImplemented
    rows = lookups(ids, len(weight), weight, given["padding_idx"], own)
    if given["mode"] != "sum" and given["mode"] is not None:
        shares = rows.weights / rows.weights.sum(dim=1, keepdim=True).clamp(min=1)
        rows = type(rows)(rows.ids, rows.width, shares)
    return record_lookup(recorder, weight, func(*args, **kwargs), rows)


def _layer_norm(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = {"eps": 1e-5, **kwargs}
    given |= dict(zip(("input", "normalized_shape", "weight", "bias", "eps"), args, strict=False))
    shape = tuple(given["normalized_shape"])
    # Without weight and bias: the gradient of the scale is the output gradient times this.
    normalized = functional.layer_norm(given["input"].detach(), shape, eps=given["eps"])
    return record_norm(recorder, func(*args, **kwargs), normalized, given, axes=len(shape))


def _rms_norm(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = _bound("input normalized_shape weight eps", args, kwargs)
    shape = tuple(given["normalized_shape"])
    normalized = functional.rms_norm(given["input"].detach(), shape, eps=given["eps"])
    return record_norm(recorder, func(*args, **kwargs), normalized, given, axes=len(shape))


def _group_norm(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = {"eps": 1e-5, **kwargs}
    given |= dict(zip(("input", "num_groups", "weight", "bias", "eps"), args, strict=False))
    normalized = functional.group_norm(given["input"].detach(), given["num_groups"], eps=given["eps"])
    return record_norm(recorder, func(*args, **kwargs), normalized, given, axes=0)


def _batch_norm(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    given = _bound("input running_mean running_var weight bias training momentum eps", args, kwargs)
    mean, variance = given["running_mean"], given["running_var"]
    if given["training"] or mean is None or variance is None:
        raise ModelError(
            f"expected batch normalization of {', '.join(recorder.parameters_in((args, kwargs)))} in evaluation mode "
            f"with running statistics, found it to depend on the other examples of its batch; call eval(), and leave "
            f"track_running_stats on"
        )
    eps = 1e-5 if given["eps"] is None else given["eps"]
    normalized = functional.batch_norm(given["input"].detach(), mean, variance, eps=eps)
    return record_norm(recorder, func(*args, **kwargs), normalized, given, axes=0)


def _instance_norm(recorder: Recorder, func: Callable[..., Any], args: Args, kwargs: Named) -> Any:
    names = "input running_mean running_var weight bias use_input_stats momentum eps"
    given = _bound(names, args, kwargs)
    own = given["use_input_stats"] in (None, True)
    eps = 1e-5 if given["eps"] is None else given["eps"]
    normalized = functional.instance_norm(
        given["input"].detach(), given["running_mean"], given["running_var"], use_input_stats=own, eps=eps
    )
    if own and given["running_mean"] is not None:
        raise refusal(recorder.parameters_in((args, kwargs)), func, "in training mode; call eval()")
    return record_norm(recorder, func(*args, **kwargs), normalized, given, axes=0)


Handler = Callable[[Recorder, Callable[..., Any], Args, Named], Any]

_BY_FUNCTION: dict[Callable[..., Any], Handler] = {
    functional.embedding: _embedding,
    functional.embedding_bag: _embedding_bag,
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    functional.group_norm: _group_norm,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _instance_norm,
    functional.multi_head_attention_forward: record_attention,
    torch.concatenate: concatenated,
}
"""By the function itself, where others of its name take other arguments."""

_BY_NAME: dict[str, Handler] = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "__matmul__", "mm"), _matmul),
    "addmm": _addmm,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
}

"""Uses of the parameters of multi-head attention: its three projections and its output's.

Axes: N examples, L queries, S keys, H heads, E features. torch computes attention in one function, so an equal forward
pass runs in its place; its outputs are compared with the function's own.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.matrices import Product, record_product
from relatif.pipeline.curvature.recording import Recorder, refusal

SIGNATURE = inspect.signature(functional.multi_head_attention_forward)


def record_attention(
    recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """Run attention for queries [L, N, E] and keys and values [S, N, ...], and record its linear layers.

    Raises ModelError where the outputs are others than the function's own, and for settings that aren't understood.
    """
    bound = SIGNATURE.bind(*args, **kwargs)
    bound.apply_defaults()
    given, names = bound.arguments, recorder.parameters_in((args, kwargs))
    if given["bias_k"] is not None or given["bias_v"] is not None or given["add_zero_attn"]:
        raise refusal(names, func, "with add_bias_kv or add_zero_attn")
    if given["query"].ndim != 3 or (given["training"] and given["dropout_p"]):
        raise refusal(names, func, "without a batch axis or with dropout; give it a batch, and call eval()")
    with torch.no_grad():
        expected = func(*args, **kwargs)
    queries, keys, values = _projected(recorder, given)
    found, shares = _attended(given, queries, keys, values)
    found = _linear(recorder, found, given["out_proj_weight"], given["out_proj_bias"])
    # A query without any key to attend to has no output, here as there.
    if not torch.allclose(found, expected[0], rtol=0, atol=_rounding(expected[0]), equal_nan=True):
        raise refusal(names, func, "whose outputs are others than those of its equations")
    if not given["need_weights"]:
        return found, None
    return found, shares.mean(dim=1) if given["average_attn_weights"] else shares


def _projected(recorder: Recorder, given: dict[str, Any]) -> list[Tensor]:
    """Return queries, keys and values, [L or S, N, E] each."""
    inputs = [given[name] for name in ("query", "key", "value")]
    if given["use_separate_proj_weight"]:
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
        biases = [None] * 3 if given["in_proj_bias"] is None else _thirds(recorder, given["in_proj_bias"])
        layers = zip(inputs, weights, biases, strict=True)
        return [_linear(recorder, value, weight, bias) for value, weight, bias in layers]
    # One product for each of the tensors that differ; of its outputs the parts that are asked for.
    projected = {
        key: _linear(recorder, value, given["in_proj_weight"], given["in_proj_bias"]).chunk(3, dim=-1)
        for key, value in {id(value): value for value in inputs}.items()
    }
    return [projected[id(value)][place] for place, value in enumerate(inputs)]


def _thirds(recorder: Recorder, bias: Tensor) -> list[Tensor]:
    with recorder:  # so that it is known what these are parts of
        return list(bias.chunk(3))


def _linear(recorder: Recorder, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output = functional.linear(inputs, weight, bias)
    if not (recorder.is_covered(weight) or recorder.is_covered(bias)):
        return output
    return record_product(recorder, Product(recorder, weight, bias, by_rows=True), output, inputs, axis=1)


def _attended(given: dict[str, Any], queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the heads' outputs side by side, [L, N, E], and the shares [N, H, L, S] of the values in them."""
    heads = given["num_heads"]

    def split(projected: Tensor) -> Tensor:
        """Return [N, H, L, E / H]."""
        return projected.unflatten(2, (heads, -1)).permute(1, 2, 0, 3)

    split_queries, split_keys, split_values = split(queries), split(keys), split(values)
    logits = split_queries @ split_keys.mT / split_queries.shape[-1] ** 0.5
    mask, padding = given["attn_mask"], given["key_padding_mask"]
    if mask is not None:
        mask = mask if mask.ndim == 2 else mask.unflatten(0, (-1, heads))
        logits = _masked(logits, mask)
    if padding is not None:
        logits = _masked(logits, padding[:, None, None])
    shares = logits.softmax(dim=-1)
    return (shares @ split_values).permute(2, 0, 1, 3).flatten(2), shares


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    return logits.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.to(logits)


def _rounding(values: Tensor) -> float:
    largest = float(values.nan_to_num(posinf=0, neginf=0).abs().max()) if values.numel() else 0.0
    return largest * torch.finfo(values.dtype).eps ** 0.5

"""Uses of the parameters of recurrent layers: their matrices of inputs and of hidden states, at every step.

Axes: N examples, T steps, I inputs, H hidden numbers, G gates. torch runs a recurrence in one function, so an equal one
runs in its place, step by step; its outputs are compared with the function's own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.matrices import Product, folded
from relatif.pipeline.curvature.places import BlockUse
from relatif.pipeline.curvature.recording import Recorder, refusal

State = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, State], State]
"""From what inputs and hidden state send, [N, G H] each, and the state to the next state; its first is the output."""


def _lstm(of_inputs: Tensor, of_hidden: Tensor, state: State) -> State:
    enter, forget, cell, leave = (of_inputs + of_hidden).chunk(4, dim=1)
    kept = forget.sigmoid() * state[1] + enter.sigmoid() * cell.tanh()
    return leave.sigmoid() * kept.tanh(), kept


def _gru(of_inputs: Tensor, of_hidden: Tensor, state: State) -> State:
    reset, update, new = of_inputs.chunk(3, dim=1)
    own_reset, own_update, own_new = of_hidden.chunk(3, dim=1)
    proposed = (new + (reset + own_reset).sigmoid() * own_new).tanh()
    share = (update + own_update).sigmoid()
    return ((1 - share) * proposed + share * state[0],)


def _rnn(activation: Callable[[Tensor], Tensor]) -> Step:
    return lambda of_inputs, of_hidden, _: (activation(of_inputs + of_hidden),)


STEPS: dict[str, Step] = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _rnn(torch.tanh), "rnn_relu": _rnn(torch.relu)}

RECURRENCES = frozenset([*STEPS, *(f"{name}_cell" for name in STEPS)])


@dataclass(frozen=True)
class _Direction:
    """A layer in one direction: its four parameters, biases None where there are none."""

    inputs: Product
    hidden: Product
    backwards: bool = False

    def ordered(self, steps: Tensor) -> Tensor:
        """Return what is given in the order of the data in that of the steps, or the other way round."""
        return steps.flip(1) if self.backwards else steps


def record_recurrence(
    recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a recurrent layer or cell, and record its matrices' uses.

    Raises ModelError for packed sequences, learned initial states and dropout, and where outputs are others than the
    function's own.
    """
    names = recorder.parameters_in((args, kwargs))
    name = func.__name__
    if kwargs:
        raise refusal(names, func, "called by keyword")
    with torch.no_grad():
        expected = func(*args)
    found = _cell(recorder, func, args) if name.endswith("_cell") else _layers(recorder, func, args)
    same = zip(_flat(found), _flat(expected), strict=True)
    if not all(torch.allclose(one, other, rtol=0, atol=_rounding(other), equal_nan=True) for one, other in same):
        raise refusal(names, func, "whose outputs are others than those of its equations")
    return found


def _cell(recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    inputs, state, *parameters = args
    states = tuple(state) if isinstance(state, tuple | list) else (state,)
    _check_states(recorder, func, states, args)
    step, direction = STEPS[func.__name__.removesuffix("_cell")], _direction(recorder, parameters)
    outputs, last = _run(recorder, step, direction, inputs[:, None], states)
    return last if len(states) > 1 else outputs[:, 0]


def _layers(recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if isinstance(args[3], tuple | list):
        raise refusal(
            recorder.parameters_in(args), func, "on packed sequences; pad them, and take each one's own steps by a mask"
        )
    inputs, state, parameters, biased, layers, dropout, training, bidirectional, batch_first = args
    states = tuple(state) if isinstance(state, tuple | list) else (state,)
    _check_states(recorder, func, states, args)
    if (training and dropout and layers > 1) or inputs.ndim != 3:
        raise refusal(recorder.parameters_in(args), func, "without a batch axis or with dropout; call eval()")
    step = STEPS[func.__name__]
    values = inputs if batch_first else inputs.transpose(0, 1)
    each, ways, lasts = (4 if biased else 2), (2 if bidirectional else 1), []
    if len(parameters) != each * ways * layers:
        raise refusal(recorder.parameters_in(args), func, "with proj_size")
    sent: list[Tensor] = []
    for place, own in enumerate([parameters[start : start + each] for start in range(0, len(parameters), each)]):
        start = tuple(part[place] for part in states)
        backwards = place % ways == 1
        outputs, last = _run(recorder, step, _direction(recorder, own, backwards=backwards), values, start)
        sent.append(outputs)
        lasts.append(last)
        if len(sent) == ways:
            values, sent = torch.cat(sent, dim=2), []
    final = tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))
    return (values if batch_first else values.transpose(0, 1), *final)


def _direction(recorder: Recorder, parameters: Sequence[Any], *, backwards: bool = False) -> _Direction:
    of_inputs, of_hidden, *biases = parameters
    first, second = biases or (None, None)
    inputs = Product(recorder, of_inputs, first, by_rows=True)
    return _Direction(inputs, Product(recorder, of_hidden, second, by_rows=True), backwards)


def _run(recorder: Recorder, step: Step, direction: _Direction, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    """Return the outputs [N, T, H] of one layer in one direction, and its last state; record both matrices.

    Zeros are added to what they send, and have the gradients there, in the order of the data.
    """
    blocks = recorder.blocks(direction.inputs.weight, direction.inputs.bias)
    recorder.watch(inputs, blocks)
    sent = functional.linear(inputs, direction.inputs.weight, direction.inputs.bias)  # type: ignore[arg-type]
    zeros = [torch.zeros_like(sent).requires_grad_() for _ in range(2)]
    of_inputs, of_hidden, hidden, outputs = direction.ordered(sent + zeros[0]), direction.ordered(zeros[1]), [], []
    for place in range(inputs.shape[1]):
        hidden.append(state[0].detach())
        own = functional.linear(state[0], direction.hidden.weight, direction.hidden.bias)  # type: ignore[arg-type]
        state = step(of_inputs[:, place], own + of_hidden[:, place], state)
        outputs.append(state[0])
    for product, node, seen in (
        (direction.inputs, zeros[0], inputs.detach()),
        (direction.hidden, zeros[1], direction.ordered(torch.stack(hidden, dim=1))),
    ):
        _record(recorder, product, node, seen)
    return direction.ordered(torch.stack(outputs, dim=1)), state


def _record(recorder: Recorder, product: Product, node: Tensor, seen: Tensor) -> None:
    kept, blocks = folded(seen, bias=product.folded), recorder.blocks(product.weight, product.bias)

    def factors(gradient: Tensor) -> Iterator[BlockUse]:
        return product.factors([gradient], [kept])

    if blocks:
        recorder.record(node, [kept], blocks, kept.shape[1], factors)


def _check_states(recorder: Recorder, func: Callable[..., Any], states: State, args: object) -> None:
    if any(recorder.is_covered(state) for state in states):
        raise refusal(recorder.parameters_in(args), func, "with an initial state that is trained; use zeros, freeze it")


def _flat(values: Any) -> list[Tensor]:
    return [values] if isinstance(values, Tensor) else list(values)


def _rounding(values: Tensor) -> float:
    largest = float(values.nan_to_num(posinf=0, neginf=0).abs().max()) if values.numel() else 0.0
    return largest * torch.finfo(values.dtype).eps ** 0.5

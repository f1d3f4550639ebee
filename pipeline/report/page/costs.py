"""What the engine's parts of a page may cost, in counted operations: fewer ranks first, then fewer inputs.

Axes: M inputs of a page, K ranks of a list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from relatif.pipeline.calls import run_model
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.report.page.deepening import FORWARD_AND_BACKWARD, Size
from relatif.pipeline.report.page.lists import Explanation
from relatif.schemas.errors import RelatifError

OPERATIONS = 150_000_000_000
"""A part of the page takes no more: about 20 s of one processor core, which does five to ten a nanosecond."""

CALL_OPERATIONS = 2_000_000
"""Gradients of one output take as long as so many for each layer, and once more, of however few examples."""

FORWARD_CALLS = 3
"""A recorded pass forward, with what is proven of it, takes as long as the gradients of so many outputs."""

HALVINGS = 4
"""The first half, quarter, ... of the inputs are tried so many times."""

Told = Callable[[int, int], None]
"""What hears how many are done, of how many."""


def silent(done: int, of: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Costs:
    """Operations of one example's pass forward and back, and of a call for gradients, of however few examples."""

    example: int
    call: int


FREE = Costs(0, 0)


@dataclass(frozen=True)
class Shown:
    """A part is made for the first ``ranks`` of the lists of the first ``inputs``; for none where both are 0."""

    inputs: int
    ranks: int

    def note(self, part: str, inputs: int, ranks: int) -> str:
        """Return what the page says of a part that not all of its ``inputs`` and ``ranks`` have.

        >>> Shown(20, 3).note("corrected effects", 40, 10)
        '; corrected effects are those of the first 3 of each list, of the first 20 inputs, as more would take long'
        >>> Shown(40, 10).note("corrected effects", 40, 10), Shown(0, 0).note("corrected effects", 40, 10)
        ('', '; without corrected effects, which would take long')
        """
        if not self.ranks:
            return f"; without {part}, which would take long"
        lists = f"of the first {self.ranks} of each list" if self.ranks > 1 else "of the first of each list"
        told = [lists] if self.ranks < ranks else []
        told += [f"of the first {self.inputs:,} inputs"] if self.inputs < inputs else []
        return f"; {part} are those {', '.join(told)}, as more would take long" if told else ""


def costs_of(engine: Engine, size: Size) -> Costs:
    """Return what a run's model costs, by the multiplications of its first example's forward pass.

    Each parameter counts once at least. A model that lets nobody count is taken to use each parameter once.
    """
    explainer = engine.explainer
    example, layers = engine.training_examples([0]), len(explainer.subject.coverage.layers)
    counter = FlopCounterMode(display=False)
    try:
        with explainer.lock, torch.no_grad(), counter:
            run_model(explainer.subject.model, example.inputs, first_index=example.first_index)
        multiplications = counter.get_total_flops() // 2
    except RelatifError:
        multiplications = 0
    return Costs(FORWARD_AND_BACKWARD * max(multiplications, size.parameters), CALL_OPERATIONS * (1 + layers))


def first_within(
    every: Sequence[Explanation], ranks: Sequence[int], operations: Callable[[Sequence[Explanation], int], int]
) -> Shown:
    """Return for how many inputs and ranks, of ``ranks``, the operations are few enough: all inputs where that can be.

    >>> first_within([{}] * 40, (10, 1), lambda every, ranks: len(every) * ranks * 10**9)
    Shown(inputs=40, ranks=1)
    >>> first_within([{}] * 40, (10, 1), lambda every, ranks: len(every) * 15 * 10**9)
    Shown(inputs=10, ranks=10)
    """
    for halvings in range(HALVINGS + 1):
        inputs = len(every) >> halvings
        for count in ranks if inputs else ():
            if operations(every[:inputs], count) <= OPERATIONS:
                return Shown(inputs, count)
    return Shown(0, 0)

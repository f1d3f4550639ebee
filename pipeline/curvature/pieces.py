"""Shards go through a model in pieces of a fixed size, few enough examples to stay near the processor.

Axes: N examples.
"""

from collections.abc import Iterator

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.devices import piece_bytes
from relatif.pipeline.inputs import device_of


def pieces(subject: CoveredModel, examples: Examples, rows: int | None = None) -> Iterator[Examples]:
    """Yield consecutive pieces of the examples, all of ``rows`` rows, by default ``piece_rows``, but the last.

    Where they are cut depends on the model and the device alone, so sums in this order are always the same bit by bit.
    """
    rows = rows or piece_rows(subject, examples)
    for start in range(0, len(examples), rows):
        yield examples.rows(start, start + rows)


def piece_rows(subject: CoveredModel, examples: Examples) -> int:
    """Return how many examples a piece has, from the size of the layers' inputs and outputs for the first one.

    Raises as ``forward_pass`` does.
    """
    # One example suffices: what layers hold grows in proportion to the examples.
    one = examples.rows(0, 1)
    forward = forward_pass(subject.model, one.inputs, subject.coverage, first_index=examples.first_index)
    return max(1, piece_bytes(device_of(examples.inputs)) // forward.nbytes)

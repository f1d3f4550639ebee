"""Shards go through a model in pieces of a fixed size, few enough examples to stay near the processor.

Axes: N examples.
"""

from collections.abc import Iterator

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.subject import Examples, Subject

CPU_PIECE_BYTES = 16 * 2**20
"""What the covered layers see and send for a piece: about a processor's last-level cache."""
GPU_PIECE_BYTES = 2**30
"""On a GPU, which wants many examples at once, a part of its memory."""


def pieces(subject: Subject, examples: Examples) -> Iterator[Examples]:
    """Yield consecutive pieces of the examples, all of ``piece_rows`` rows but the last.

    Where they are cut depends on the model and the device alone, so sums in this order are always the same bit by bit.
    """
    rows = piece_rows(subject, examples)
    for start in range(0, len(examples.inputs), rows):
        stop = start + rows
        yield Examples(examples.inputs[start:stop], examples.labels[start:stop], examples.first_index + start)


def piece_rows(subject: Subject, examples: Examples) -> int:
    """Return how many examples a piece has, from what the layers see and send for the first one.

    Raises as ``forward_pass`` does.
    """
    forward = forward_pass(subject.model, examples.inputs[:1], subject.coverage, first_index=examples.first_index)
    seen = [values for blocks in forward.layer_inputs.values() for values in blocks]
    held = sum(values.nbytes for values in (*seen, *forward.layer_outputs.values()))
    limit = CPU_PIECE_BYTES if examples.inputs.device.type == "cpu" else GPU_PIECE_BYTES
    return max(1, limit // held)

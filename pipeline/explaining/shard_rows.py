"""Shards in pieces of rows whose gradients fit into memory together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import HELD_BYTES
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.runs.source import Source


@dataclass(frozen=True)
class ShardRows:
    """Some rows of a shard, counted within it: what is explained at once."""

    shard: Shard
    start: int
    stop: int

    @property
    def first(self) -> int:
        """Return the row of the first of them in the data set."""
        return self.shard.start + self.start


def cut(shards: Sequence[Shard], rows: int) -> list[ShardRows]:
    """Cut shards into pieces of at most so many rows."""
    return [
        ShardRows(shard, start, min(start + rows, shard.rows))
        for shard in shards
        for start in range(0, shard.rows, rows)
    ]


def explained(source: Source, explainer: Explainer, piece: ShardRows) -> ExplainedExamples:
    """Read some training examples and explain them by their own loss."""
    examples = source.examples(explainer.task, piece.shard, explainer.worker.device)
    return explainer.explain(examples.rows(piece.start, piece.stop), explained="true", split="train")


def held_rows(gradients: Mapping[str, LayerGradients]) -> int:
    """Return of how many examples the gradients are held at once, from those of a few: at least of one."""
    count = next(iter(gradients.values())).count
    size = sum(gradient.nbytes for gradient in gradients.values())
    return max(1, HELD_BYTES * count // max(1, size))

"""About how much memory an actor of the score stage takes.

Axes: N rows of a shard, P parameters.
"""

from torch import nn

from relatif.pipeline.console import format_bytes
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.devices import CPU_TILE_ROWS, HELD_BYTES
from relatif.pipeline.influence.contraction import DENSE_PARAMETERS
from relatif.pipeline.influence.sweep import WAITING_BYTES, WAITING_PAIR_BYTES, WAITING_PAIRS
from relatif.pipeline.runs.run import Run

PROCESS_BYTES = 500 * 2**20
"""A Python process with torch, Ray and pyarrow, before it holds data."""


def actor_bytes(
    run: Run, covered: Coverage, rows: int, threads: int, *, positions: int = 1, row_bytes: int | None = None
) -> int:
    """Estimate an actor's peak: factors of a block of ``rows``, exact and for screening; shards in hand; tiles.

    ``positions`` is the largest number of positions at which a layer is applied: gradients have no factors beyond 1.
    ``row_bytes`` are those of an example's gradients where they are kept as they are held, and shards cut to fit.
    """
    shard_rows = max(shard.rows for shard in (*run.train_shards, *run.scored_shards))
    features = run.dataset.input_numbers
    curvature, size = run.config.curvature, covered.covered_count
    joint = 8 * size * size if curvature.eigen_method == "exact" else 0
    if row_bytes is not None:
        # Twice while parts are joined. The tiles' parts are a few of PART_ENTRIES.
        block_width, shard_rows = 2.0 * row_bytes, min(shard_rows, max(1, HELD_BYTES // max(1, row_bytes)))
        shard_width = 1.5 * row_bytes
    elif not joint and not curvature.is_iterative and positions == 1 and _all_linear(covered):
        width = sum(outputs + inputs for outputs, inputs in covered.blocks.values())
        # Pieces and parts come and go, and allocators hold a fifth more than is in use.
        block_width, shard_width = 12 * width + 2.4 * covered.covered_count, 29 * width
    else:  # gradients as dense rows: float64 beside what they are made of, and a layer of it weighted
        block_width, shard_width = 24 * size, 24 * size
    block = rows * (block_width + 6 * features + 12 * len(run.config.score.methods) * run.config.score.top_k)
    in_hand = 3 * shard_rows * (shard_width + 24 * features)
    tiles = threads * CPU_TILE_ROWS * shard_rows * 4 * 5
    # Shards that are kept for pairs that wait, and these pairs.
    unit_rows = min(max(run.config.score.unit_rows, shard_rows), run.scored_rows)
    waiting = min(WAITING_BYTES, unit_rows * shard_width) + min(WAITING_PAIRS, rows * unit_rows) * WAITING_PAIR_BYTES
    return round(PROCESS_BYTES + joint + block + in_hand + tiles + waiting)


def actor_text(run: Run, covered: Coverage, rows: int, threads: int) -> str:
    """Return in words what an actor takes; of a large model only the plan knows, which has tried it."""
    if covered.covered_count > DENSE_PARAMETERS:
        return "as the plan of relatif check says"
    return f"about {format_bytes(actor_bytes(run, covered, rows, threads))}"


def _all_linear(covered: Coverage) -> bool:
    return all(isinstance(layer.module, nn.Linear) for layer in covered.layers.values())

"""The plan of a run: what was looked at, what each part costs, and that the machine has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relatif.pipeline.console import format_bytes
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.explaining.covered import coverage_of
from relatif.pipeline.explaining.stored_size import stored_bytes
from relatif.pipeline.preflight.layers import Block, Cost, block_cost, blocks_of, joint_cost
from relatif.pipeline.preflight.machine import Machine, free_bytes, this_machine
from relatif.pipeline.preflight.memory import StageMemory, refuse_too_large, stage_memory
from relatif.pipeline.preflight.standing import Standing, standing
from relatif.pipeline.preflight.subject import Untrained, untrained
from relatif.pipeline.preflight.timing import Estimate, estimate
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.score import written_bytes
from relatif.schemas.errors import ConfigurationError

PLANNED = ("train", "factors", "score")
"""The stages whose memory is planned."""

EXAMPLE_BYTES = 40
"""A row of train_examples or test_examples on disk."""


@dataclass(frozen=True)
class Plan:
    """What a run is going to do; ``joint`` is the cost of a curvature that couples all blocks, else None."""

    run: Run
    covered: Coverage
    blocks: Sequence[tuple[Block, Cost]]
    joint: Cost | None
    memory: Sequence[StageMemory]
    machine: Machine
    written: Mapping[str, int]
    free: int | None
    findings: Mapping[str, Any]
    finished: Sequence[str] = ()
    seconds: Estimate | None = None
    standing: Standing | None = None


def make_plan(
    run: Run,
    *,
    findings: Mapping[str, Any],
    finished: Sequence[str] = (),
    timed: bool = False,
    here: Sequence[str] = PLANNED,
) -> Plan:
    """Return the plan of a run whose settings, data and task were checked; ``timed`` estimates the time, too.

    ``findings`` are what the checks found, ``finished`` the stages whose results are there. Raises ConfigurationError,
    naming the layer or the setting, for work of the stages that are done ``here`` which this machine can't hold, and
    what the model raises on a few rows.
    """
    subject, machine = untrained(run), this_machine(run.config.cluster)
    # Of the model as it is built: passes see what is not covered frozen, which would hide why it is not.
    blocks, covered = blocks_of(subject.forward()), coverage_of(run.task, *run.config.curvature.chosen)
    memory = stage_memory(run, blocks, covered, machine)
    costs, joint = _costs(run, subject, blocks)
    written, free = _written(run, covered, costs, joint), free_bytes(run.store)
    refuse_too_large([stage for stage in memory if stage.stage in here], machine)
    if here:
        _refuse_full_disk(run, written, free)
    seconds = estimate(run, subject, blocks, machine) if timed else None
    pairs = list(zip(blocks, costs, strict=True))
    stands = standing(run) if timed else None
    return Plan(run, covered, pairs, joint, memory, machine, written, free, findings, finished, seconds, stands)


def _costs(run: Run, subject: Untrained, blocks: Sequence[Block]) -> tuple[list[Cost], Cost | None]:
    config, rows, terms = run.config.curvature, run.train_rows, subject.terms
    joint = joint_cost(blocks, rows, terms) if config.eigen_method == "exact" else None
    return [block_cost(block, config, rows, terms) for block in blocks], joint


def _written(run: Run, covered: Coverage, costs: Sequence[Cost], joint: Cost | None) -> dict[str, int]:
    """Return about how many bytes a run writes, by what they are."""
    factors = joint.bytes if joint is not None else sum(cost.bytes for cost in costs)
    examples = EXAMPLE_BYTES * (run.scored_rows + run.test_rows)
    kept = {"gradients": stored_bytes(run)} if run.config.score.gradient_store else {}
    tables = {"checkpoint": 4 * covered.total_count, "factors": factors, "tables": written_bytes(run) + examples}
    return tables | kept


def _refuse_full_disk(run: Run, written: Mapping[str, int], free: int | None) -> None:
    total = sum(written.values())
    if free is not None and total > free:
        largest = max(written, key=lambda part: written[part])
        raise ConfigurationError(
            f"expected room for about {format_bytes(total)} in {run.store.describe()}, most of it {largest}, found "
            f"{format_bytes(free)} free; choose another --out, fewer layers, score.write_scores = false or "
            f"score.gradient_store = false"
        )

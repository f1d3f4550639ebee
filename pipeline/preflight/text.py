"""A plan as people read it."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from relatif.pipeline.console import format_bytes, format_duration
from relatif.pipeline.datasets.description import InputDescription, Split
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.covered import curvature_text
from relatif.pipeline.explaining.measured import measured_text, measurement_name
from relatif.pipeline.inputs import named
from relatif.pipeline.preflight.opening import head, is_head, last
from relatif.pipeline.preflight.plan import Plan
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.score import curvature_line
from relatif.pipeline.stages.score_memory import PROCESS_BYTES
from relatif.pipeline.storage.store import open_store

SHOWN_LAYERS = 40
"""Layers that are listed one by one; a plan of more tells the largest ones and how many others there are."""

SHOWN_CLASSES = 3

SHOWN_NUMBERS = 3
"""Numbers of a target that are shown."""

LABEL, WIDTH = 12, 100


def plan_text(plan: Plan) -> str:
    """Return the plan in lines of a name and a value."""
    rows = [
        ("task", _task(plan.run)),
        *_named("model", _standing(plan)),
        ("data", _data(plan.run)),
        *(("", line) for line in _splits(plan.run)),
        ("curvature", curvature_line(plan.run)),
        ("fisher", curvature_text(plan.run.config.curvature, plan.run.task.likelihood)),
        ("methods", f"{', '.join(plan.run.config.score.methods)}; top {plan.run.config.score.top_k}"),
        ("explained", _explained(plan.run)),
        *_named("audit", [line for found in plan.findings.values() for line in _audit(found)]),
        *_named("layers", list(_layers(plan))),
        *_named("not covered", list(_uncovered(plan))),
        *_named("finished", [f"{', '.join(plan.finished)}: not computed again"] if plan.finished else []),
        *_named("memory", list(_memory(plan))),
        ("to write", _written(plan)),
        *_named("time", list(_time(plan))),
    ]
    return "\n".join(f"{name:<{LABEL}} {value}".rstrip() for name, value in rows)


def _named(name: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, line in enumerate(lines):
        yield ("" if place else name), line


def _task(run: Run) -> str:
    classes = run.task.likelihood.classes
    without = getattr(run.task.likelihood, "text", "targets without classes")
    what = without if classes is None else f"{classes} classes"
    if run.imported is not None:
        return f"{run.config.task}: {what}; nothing is trained, {'; '.join(run.imported.told)}"
    train = getattr(run.task.train, "function", run.task.train)
    recipe = getattr(getattr(train, "func", train), "__name__", type(train).__name__)
    return f"{run.config.task}: {what}, trained by {recipe}, seed {run.config.train.seed}"


def _explained(run: Run) -> str:
    config = run.config.score
    return measured_text(measurement_name(config, run.task.likelihood), config)


def _standing(plan: Plan) -> tuple[str, ...]:
    return () if plan.standing is None else plan.standing.lines


def _data(run: Run) -> str:
    inputs = ", ".join(_shape(each) for each in run.dataset.description.inputs)
    names = run.dataset.class_names
    shown = f"{', '.join(names[:SHOWN_CLASSES])}{', ...' if len(names) > SHOWN_CLASSES else ''}"
    classes = f"{len(names)} classes ({shown})" if names else "targets without classes"
    note = "; published: prepared by the run, its first rows were looked at" if is_head(run) else ""
    source = open_store(run.config.data.source) if is_head(run) else run.data
    return f"{run.dataset.name} in {source.describe()}: {inputs}, {classes}{note}"


def _shape(described: InputDescription) -> str:
    name = f"{described.name} " if described.name else ""
    return f"{name}{described.dtype} {' x '.join(map(str, described.shape))}".rstrip()


def _splits(run: Run) -> Iterator[str]:
    shown: list[tuple[Split, int, int]] = [
        ("train", run.train_rows, len(run.train_shards)),
        ("test", run.test_rows, len(run.test_shards)),
    ]
    if run.config.data.scored is not None:
        shown.append((run.config.data.scored, run.scored_rows, len(run.scored_shards)))
    for split, rows, shards in shown:
        first = _row(run, head(run, split, rows=1)[0], 0)
        end = last(run, split)
        ending = "" if end is None else f"; last row: {_row(run, end, -1)}"
        yield f"{split}: {rows:,} rows in {shards:,} shard(s); first row: {first}{ending}"


def _row(run: Run, shard: Shard, place: int) -> str:
    stored = run.source.stored(shard)
    return ", ".join(
        (
            _target(run, stored.labels[place]),
            *(_values(each, tensor[place]) for each, tensor in named(stored.inputs).items()),
        )
    )


def _target(run: Run, target: Tensor) -> str:
    """Return a class by its name, and the first numbers of any other target."""
    if target.ndim or target.is_floating_point():
        few = ", ".join(f"{value:g}" for value in target.flatten()[:SHOWN_NUMBERS].tolist())
        return f"target {few}{', ...' if target.numel() > SHOWN_NUMBERS else ''}"
    label = int(target)
    return "no label" if label == UNLABELLED else repr(run.dataset.class_name(label))


def _values(name: str, values: Tensor) -> str:
    return f"{name.lstrip('.') or 'values'} {float(values.min()):g} to {float(values.max()):g}"


def _audit(found: Mapping[str, Any]) -> Iterator[str]:
    looked = " and ".join(f"{first} to {stop - 1} of {split}" for split, (first, stop) in found["rows"].items())
    differences: Mapping[str, float] = found["largest_difference"]
    largest = max(differences.values(), default=0.0)
    yield f"the untrained model on rows {looked}: no difference above {largest:.1e} in"
    yield from textwrap.wrap(", ".join(differences), WIDTH, initial_indent="  ", subsequent_indent="  ")


def _layers(plan: Plan) -> Iterator[str]:
    covered = plan.covered
    yield f"{covered.covered_count:,} of {covered.total_count:,} parameters in {len(covered.layers)} layer(s)"
    ordered = plan.blocks
    if len(ordered) > SHOWN_LAYERS:
        ordered = sorted(ordered, key=lambda pair: -max(pair[1].bytes, pair[0].size))[:SHOWN_LAYERS]
    for block, cost in ordered:
        size = f", {format_bytes(cost.bytes)}, {_flops(cost.flops)}" if cost.bytes else ""
        at = f" at {block.positions:,} positions" if block.positions > 1 else ""
        yield f"  {block.name} ({block.layer}{at}): {cost.form}{size}"
    if len(plan.blocks) > SHOWN_LAYERS:
        yield f"  and {len(plan.blocks) - SHOWN_LAYERS} smaller ones"
    if plan.joint is not None:
        yield f"  together: {plan.joint.form}, {format_bytes(plan.joint.bytes)}, {_flops(plan.joint.flops)}"


def _uncovered(plan: Plan) -> Iterator[str]:
    left = [parameter for parameter in plan.covered.parameters if not parameter.covered]
    for parameter in left[:SHOWN_LAYERS]:
        yield f"{parameter.name}: {parameter.count:,} numbers, {parameter.reason}"
    if len(left) > SHOWN_LAYERS:
        yield f"and {len(left) - SHOWN_LAYERS} more parameters"
    if not left:
        yield "nothing"


def _memory(plan: Plan) -> Iterator[str]:
    machine = plan.machine
    gpus = f", {machine.gpus} GPU(s)" if machine.gpus else ""
    yield f"of {format_bytes(machine.memory)} here, {machine.cpus} core(s){gpus}"
    for stage in plan.memory:
        count = f"{stage.workers} x " if stage.workers > 1 else ""
        mostly = stage.mostly if stage.bytes > 2 * PROCESS_BYTES else "the process itself"
        yield f"  {stage.stage}: {count}{format_bytes(stage.bytes)}, most of it {mostly}"


def _written(plan: Plan) -> str:
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in plan.written.items())
    free = "" if plan.free is None else f", {format_bytes(plan.free)} free"
    return f"about {format_bytes(sum(plan.written.values()))} ({parts}){free}"


def _time(plan: Plan) -> Iterator[str]:
    if plan.seconds is None:
        return
    stages = plan.seconds.stages
    parts = ", ".join(f"{name} {format_duration(seconds)}" for name, seconds in stages.items())
    total = sum(stages.values())
    yield f"about {format_duration(max(1, total))} on {plan.machine.cpus} core(s), and the start of Ray: {parts}"
    one = format_duration(plan.seconds.pass_seconds)
    if "train" not in stages and plan.run.imported is None:
        yield f"  and training: {one} for each pass over the training set that the recipe makes"
    if "score" not in stages:
        yield f"  and solving: each iteration costs about as much as a few passes of {one}"


def _flops(count: float) -> str:
    for factor, unit in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e6:.1f} MFLOP"

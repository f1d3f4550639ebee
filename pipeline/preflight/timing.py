"""About how long the stages take: passes timed on a few rows in this process, and operations at a measured rate.

Axes: N training examples, M test inputs, P parameters.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.eigen import Curvature, LayerCurvature
from relatif.pipeline.curvature.exact import fisher_strips, strips_of
from relatif.pipeline.curvature.kronecker import kronecker_sums
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.inputs import in_precision
from relatif.pipeline.parallel import single_threaded_pool
from relatif.pipeline.preflight.layers import EIGEN_FLOPS, Block
from relatif.pipeline.preflight.machine import Machine
from relatif.pipeline.preflight.subject import Untrained
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.score import block_rows
from relatif.pipeline.tasks.minibatch import CHUNKS, train_by_minibatches
from relatif.schemas.methods import DISTANCE, methods_of

BUDGET_SECONDS = 0.25
"""A pass is timed on more rows until it takes so long."""

LONG_BUDGETS = 8
"""A first call that takes so many budgets is not repeated."""

PRODUCT_WIDTH = 384
"""Of the matrices whose product is timed."""

SCREENING = 1.5
"""Time of the score stage's tiles over that of their bare products."""


@dataclass(frozen=True)
class Rates:
    """Operations a second of one core: products in float64 and float32, and eigendecompositions."""

    double: float
    single: float
    eigen: float


@dataclass(frozen=True)
class Estimate:
    """Seconds that stages take, by name; ``pass_seconds`` is one pass of gradients over the training set."""

    stages: Mapping[str, float]
    pass_seconds: float


def estimate(run: Run, subject: Untrained, blocks: Sequence[Block], machine: Machine) -> Estimate:
    """Time passes over a few rows on one core, as a worker's threads compute, and scale them to the run."""
    with single_threaded_pool(1) as pool:
        return pool.submit(_estimate, run, subject, blocks, machine).result()


def _estimate(run: Run, subject: Untrained, blocks: Sequence[Block], machine: Machine) -> Estimate:
    rates = _rates()
    training = run.train_rows * seconds_per_row(partial(_train_pass, subject), len(subject.examples))
    stages = {}
    if run.imported is None and _by_minibatches(run.task.train):
        stages["train"] = run.config.train.epochs * training / min(machine.cpus, CHUNKS)
    stages["factors"] = _factor_seconds(run, subject, blocks, rates) / machine.cpus
    stages["factors"] += _eigen_seconds(run, blocks, rates)
    if not run.config.curvature.is_iterative:
        stages["score"] = _score_seconds(run, subject, blocks, rates) / machine.cpus
    return Estimate(stages, training / machine.cpus)


def seconds_per_row(work: Callable[[int], object], available: int) -> float:
    """Return the seconds that ``work(rows)`` takes for each row, on as many rows as the budget asks for."""
    rows = min(available, 2)
    seconds = _seconds(work, rows)
    # The first call also pays for what happens once only: of little weight where it takes long.
    while seconds < LONG_BUDGETS * BUDGET_SECONDS:
        rows = min(available, 4 * rows)
        seconds = _seconds(work, rows)
        if seconds >= BUDGET_SECONDS or rows >= available:
            break
    return seconds / rows


def _seconds(work: Callable[[int], object], rows: int) -> float:
    started = time.perf_counter()
    work(rows)
    return time.perf_counter() - started


def _factor_seconds(run: Run, subject: Untrained, blocks: Sequence[Block], rates: Rates) -> float:
    method, available = run.config.curvature.eigen_method, len(subject.examples)
    if method == "identity":
        return 0.0
    if method == "exact":
        return run.train_rows * _strip_seconds(subject, available)
    sums = seconds_per_row(lambda rows: kronecker_sums(subject.covered, subject.examples.rows(0, rows)), available)
    if method == "ekfac":
        sums += sums + subject.terms * _rotation_flops(blocks) / rates.double
    return run.train_rows * sums


def _strip_seconds(subject: Untrained, available: int) -> float:
    """Return the seconds that one example takes in all strips of the exact matrix, from those of a few strips.

    What all strips share, the passes through the model, is measured without any strip and counted once.
    """
    strips = strips_of(subject.covered.coverage)
    some = strips[:: max(1, len(strips) // 3)]
    sizes = {"some": 0}

    def work(rows: int) -> None:
        found = fisher_strips(subject.covered, subject.examples.rows(0, rows), some)
        sizes["some"] = sum(part.numel() for part in found.values())

    shared = seconds_per_row(lambda rows: fisher_strips(subject.covered, subject.examples.rows(0, rows), []), available)
    seconds = max(0.0, seconds_per_row(work, available) - shared)
    size = subject.covered.coverage.covered_count
    return shared + seconds * (size * size / 2) / sizes["some"]


def _eigen_seconds(run: Run, blocks: Sequence[Block], rates: Rates) -> float:
    method = run.config.curvature.eigen_method
    widths = [width for block in blocks for width, diagonal in block.sides if not diagonal]
    if method == "exact":
        widths = [sum(block.size for block in blocks)]
    return 0.0 if method == "identity" else sum(EIGEN_FLOPS * float(width) ** 3 for width in widths) / rates.eigen


def _score_seconds(run: Run, subject: Untrained, blocks: Sequence[Block], rates: Rates) -> float:
    """Return the core-seconds of explaining all rows, the training rows once for each block, and of all pairs."""
    curvature = Curvature(
        {b.name: LayerCurvature(None, torch.zeros(b.outputs, b.inputs).double()) for b in blocks}, 1.0
    )
    explainer = Explainer(run.task, subject.covered, curvature, Worker())

    def work(rows: int) -> None:
        explainer.explain(subject.examples.rows(0, rows), explained="true", split="train")

    row = seconds_per_row(work, len(subject.examples)) + _row_flops(run, blocks) / rates.double
    rows = run.scored_rows * -(-run.test_rows // block_rows(run)) + run.test_rows
    pairs = float(run.scored_rows) * run.test_rows * _pair_flops(run, blocks)
    return rows * row + SCREENING * pairs / rates.single


def _row_flops(run: Run, blocks: Sequence[Block]) -> float:
    """Return the operations that turn a gradient into the curvature's basis."""
    method = run.config.curvature.eigen_method
    if method == "exact":
        return 2.0 * sum(block.size for block in blocks) ** 2
    return 0.0 if method == "identity" else _rotation_flops(blocks)


def _rotation_flops(blocks: Sequence[Block]) -> float:
    def flops(block: Block) -> float:
        return 2.0 * (block.squares if block.positions == 1 else block.size * (block.outputs + block.inputs))

    return sum(map(flops, blocks))


def _pair_flops(run: Run, blocks: Sequence[Block]) -> float:
    """Return the operations of a pair: products of gradients for each numerator, and of inputs for the distance."""
    factored = run.config.curvature.eigen_method != "exact" and all(block.positions == 1 for block in blocks)
    product = sum(2.0 * (block.outputs + block.inputs if factored else block.size) for block in blocks)
    numerators = {method.numerator for method in methods_of(run.config.score.methods)}
    inputs = 2.0 * run.dataset.input_numbers
    return sum(inputs if numerator == DISTANCE else product for numerator in numerators)


def _train_pass(subject: Untrained, rows: int) -> None:
    few, model = subject.examples.rows(0, rows), subject.trainable
    losses = subject.covered.likelihood.losses(run_model(model, in_precision(few.inputs, torch.float32)), few.targets)
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.autograd.grad(losses.sum(), chosen, allow_unused=True)


def _rates() -> Rates:
    def product(dtype: torch.dtype) -> float:
        left = torch.rand(PRODUCT_WIDTH, PRODUCT_WIDTH, dtype=dtype)
        return 2.0 * PRODUCT_WIDTH**2 / seconds_per_row(lambda rows: left[:rows] @ left, PRODUCT_WIDTH)

    square = torch.rand(PRODUCT_WIDTH, PRODUCT_WIDTH, dtype=torch.float64)
    torch.linalg.eigh(square[:2, :2])
    started = time.perf_counter()
    torch.linalg.eigh(square)
    seconds = time.perf_counter() - started
    return Rates(product(torch.float64), product(torch.float32), EIGEN_FLOPS * PRODUCT_WIDTH**3 / seconds)


def _by_minibatches(train: Any) -> bool:
    """Return whether a recipe is this project's, looking through guards and partials."""
    inner = getattr(train, "function", train)
    return getattr(inner, "func", inner) is train_by_minibatches

"""The exact curvature of all covered parameters, row by row: the Fisher of Eq. 7, or the Hessian of the mean loss.

Axes: N examples, O outputs, I inputs of a block (bias folded), P parameters side by side: block after block, each
flattened row by row. The matrix is summed in *strips*: the I consecutive matrix rows that belong to one output of one
block, from their own diagonal on. The matrix is symmetric, so all strips together are one half of it. Sums are float64.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.capture import forward_pass, term_output_gradients
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.forms import FactoredGradients, LayerGradients
from relatif.pipeline.curvature.gradients import layer_gradients
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.sides import dense, positions_of
from relatif.pipeline.inputs import copied, device_of
from relatif.schemas.errors import ConfigurationError, NumericalError

Strip = tuple[str, int]
"""A block's name and one of its outputs."""

LARGEST_PARAMETERS = 20_000
"""Largest P: its decomposition needs about 13 GB, and hours."""


def check_size(coverage: Coverage) -> None:
    """Raise ConfigurationError where the covered parameters are too many for a dense matrix."""
    if coverage.covered_count > LARGEST_PARAMETERS:
        raise ConfigurationError(
            f"expected at most {LARGEST_PARAMETERS:,} covered parameters for the exact curvature, found "
            f"{coverage.covered_count:,}; choose fewer by curvature.layers or "
            f"curvature.exclude, or another curvature.method"
        )


def strips_of(coverage: Coverage) -> list[Strip]:
    """Return all strips of the matrix, in order."""
    return [(name, output) for name, (outputs, _) in coverage.blocks.items() for output in range(outputs)]


def strip_start(coverage: Coverage, strip: Strip) -> int:
    """Return where a strip begins: its first index among the P parameters."""
    return block_starts(coverage)[strip[0]] + strip[1] * coverage.blocks[strip[0]][1]


def block_starts(coverage: Coverage) -> dict[str, int]:
    """Return the first index of every block among the P parameters."""
    sizes = [outputs * inputs for outputs, inputs in coverage.blocks.values()]
    return dict(zip(coverage.blocks, accumulate(sizes, initial=0), strict=False))


def fisher_strips(subject: CoveredModel, examples: Examples, strips: Sequence[Strip]) -> dict[Strip, Tensor]:
    """Return strips of ``sum_n E_y g_ny g_ny'``, each [I, P - start], expectation by ``subject.fisher`` (Eq. 7).

    For two layers that are applied at one position a strip holds ``sum_n m_n[o, o'] a_n a'_n'`` with
    ``m_n = E_y d_ny d'_ny'``: the expectation costs O numbers for each example, and one product of the inputs follows
    for each pair of outputs.
    """
    coverage = subject.coverage
    forward = forward_pass(subject.model, examples.inputs, coverage)
    device = device_of(examples.inputs)
    sums = {strip: torch.zeros(_shape(coverage, strip), dtype=torch.float64, device=device) for strip in strips}
    moments: dict[tuple[Strip, str], Tensor] = {}
    rank_one: dict[str, Tensor] = {}
    for weights, output_gradients in term_output_gradients(forward, subject, examples):
        uses = forward.factors(output_gradients)
        # Inputs are the same for every label, so which blocks these are is too.
        rank_one = _rank_one(uses)
        gradients = {name: layer_gradients(of_block) for name, of_block in uses.items()}
        for strip in strips:
            # The strip meets its own block and those after it: strips before it hold the rest, mirrored.
            for name, columns in _columns(coverage, strip):
                if strip[0] in rank_one and name in rank_one:
                    term = _output_moment(weights, gradients[strip[0]], strip[1], gradients[name])
                    moments[strip, name] = moments[strip, name] + term if (strip, name) in moments else term
                else:
                    sums[strip][:, columns] += _dense_part(
                        weights, gradients[strip[0]].dense()[:, strip[1]], gradients[name], columns
                    )
    # Labels entered the moments alone, so the inputs are multiplied once for all of them.
    for (strip, name), moment in moments.items():
        columns = dict(_columns(coverage, strip))[name]
        sums[strip][:, columns] = _rank_one_part(moment, rank_one[strip[0]], rank_one[name], columns)
    return sums


def hessian_strips(subject: CoveredModel, examples: Examples, strips: Sequence[Strip]) -> dict[Strip, Tensor]:
    """Return strips of ``sum_n grad^2 loss_n`` at the data's targets, each [I, P - start], by double backward passes.

    Raises NumericalError that names the first example whose loss is not finite.
    """
    places = parameter_places(subject.coverage)
    parameters = dict(subject.model.named_parameters())
    chosen = [parameters[name] for name in places]
    with torch.enable_grad():
        losses = subject.likelihood.losses(
            run_model(subject.model, copied(examples.inputs), first_index=examples.first_index), examples.targets
        )
        _refuse_not_finite(losses, examples)
        gradients = torch.autograd.grad(losses.sum(), chosen, create_graph=True)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
    # torch lists numbers parameter by parameter; position[p] is where the p-th of the P stands in its list.
    order = torch.cat([place.flatten() for place in places.values()])
    position = order.argsort()
    found = {}
    for strip in strips:
        start = strip_start(subject.coverage, strip)
        # One more backward pass for each row of the strip; its columns then return to our order.
        wanted = position[start : start + subject.coverage.blocks[strip[0]][1]]
        whole = torch.stack([_second(flat, chosen, place) for place in wanted.tolist()])
        found[strip] = whole[:, position[start:]]
    return found


def joint_matrix(coverage: Coverage, strips: Mapping[Strip, Tensor]) -> Tensor:
    """Return the [P, P] matrix of the given strips, filled in its lower half only (and in each strip's own square)."""
    size = sum(outputs * inputs for outputs, inputs in coverage.blocks.values())
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for strip, values in strips.items():
        start = strip_start(coverage, strip)
        # A strip holds rows from its diagonal on; transposed they are columns of the lower half.
        matrix[start:, start : start + len(values)] = values.T
    return matrix


def joint_eigen(lower: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues [P], rising, and eigenvectors [P, P] of a symmetric matrix, from its lower half."""
    values, vectors = torch.linalg.eigh(lower, UPLO="L")
    return values, vectors


def parameter_places(coverage: Coverage) -> dict[str, Tensor]:
    """Return, for each covered parameter by its PyTorch name, the places of its numbers among the P, in its shape."""
    starts = block_starts(coverage)
    return coverage.parameter_values(
        {
            name: torch.arange(starts[name], starts[name] + outputs * inputs).reshape(outputs, inputs)
            for name, (outputs, inputs) in coverage.blocks.items()
        }
    )


def _shape(coverage: Coverage, strip: Strip) -> tuple[int, int]:
    size = sum(outputs * inputs for outputs, inputs in coverage.blocks.values())
    return coverage.blocks[strip[0]][1], size - strip_start(coverage, strip)


def _columns(coverage: Coverage, strip: Strip) -> Iterator[tuple[str, slice]]:
    """Yield each block that a strip meets with its columns in the strip; its own block begins at the strip's output."""
    start, starts = strip_start(coverage, strip), block_starts(coverage)
    names = list(coverage.blocks)
    for name in names[names.index(strip[0]) :]:
        outputs, inputs = coverage.blocks[name]
        yield name, slice(max(starts[name], start) - start, starts[name] + outputs * inputs - start)


def _rank_one(uses: Mapping[str, Sequence[Factors]]) -> dict[str, Tensor]:
    """Return the inputs [N, I] of the blocks that are applied at one position, with the same inputs for every label."""
    once = {name: of_block[0] for name, of_block in uses.items() if len(of_block) == 1}
    return {
        name: dense(use.inputs)[:, 0]
        for name, use in once.items()
        if positions_of(use.inputs) == 1 and not use.transposed
    }


def _output_moment(weights: Tensor, mine: LayerGradients, output: int, other: LayerGradients) -> Tensor:
    assert isinstance(mine, FactoredGradients)
    assert isinstance(other, FactoredGradients)
    return (weights * mine.outputs[:, output])[:, None] * other.outputs


def _rank_one_part(moment: Tensor, inputs: Tensor, other: Tensor, columns: slice) -> Tensor:
    """Return ``sum_n m_n[o'] a_n a'_n'`` for the last outputs o', as many as the columns hold: [I, O' I']."""
    # In the strip's own block only the outputs from its own on have columns.
    count = (columns.stop - columns.start) // other.shape[1]
    parts = [(inputs * moment[:, place, None]).T @ other for place in range(moment.shape[1] - count, moment.shape[1])]
    return torch.cat(parts, dim=1)


def _dense_part(weights: Tensor, mine: Tensor, other: LayerGradients, columns: slice) -> Tensor:
    """Return ``sum_n weights[n] g_n g'_n'`` for my gradients [N, I] and the other's last columns."""
    # Counted from the end, as the strip's own block is cut at its beginning.
    return (mine * weights[:, None]).T @ other.dense().flatten(1)[:, columns.start - columns.stop :]


def _second(flat: Tensor, parameters: Sequence[nn.Parameter], place: int) -> Tensor:
    """Return the derivatives of one entry of the gradient with respect to all parameters, [P].

    One at a time: batched by vmap, the second derivatives of normalizations come out wrong or fail.
    """
    found = torch.autograd.grad(flat[place], parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def _refuse_not_finite(losses: Tensor, examples: Examples) -> None:
    bad = torch.nonzero(~losses.detach().isfinite()).flatten()
    if len(bad):
        raise NumericalError(
            f"expected finite losses, found that of train example {examples.first_index + int(bad[0])} not to be; "
            f"look at that example and at the model's parameters"
        )

"""The pure pass of shards over a block: the k best whatever the threads, the cut and the order of sweeps."""

from functools import partial

import numpy as np
import pytest
import torch

from relatif.pipeline.devices import Worker
from relatif.pipeline.influence.block import TrainShard
from relatif.pipeline.influence.precision import SCREENING_FLOAT32
from relatif.pipeline.influence.sweep import Sweep, empty_best
from relatif.pipeline.influence.top_k import TopK
from relatif.schemas.methods import METHODS
from tests.reference import problems, scores
from tests.support.rotated import SCORED_METHODS, block_of, brute_force, curvature_in, rotated_gradients, shard_of

torch.set_num_threads(1)

TESTS, TRAINING, K = 30, 120, 6


def inputs(seed: int, count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 9, (count, 4)).astype(np.float64))


def swept(worker: Worker, calls: list[list[slice]], visited: list[tuple[int, int]]) -> dict[str, TopK]:
    """Sweep a problem's training rows over its queries, some shards a call; ``visited`` collects the tiles."""
    problem = problems.rotated(5, shapes=((4, 9), (3, 7)), test=TESTS, train=TRAINING)
    curvature = curvature_in(problem)
    block = block_of(curvature, rotated_gradients(problem.test), inputs(1, TESTS), SCREENING_FLOAT32)
    training = inputs(2, TRAINING)

    def prepare(rows: slice) -> tuple[TrainShard, str]:
        gradients = rotated_gradients(problem.train, rows)
        return shard_of(block, curvature, gradients, training[rows], start=rows.start), f"from {rows.start}"

    best = empty_best(block, K)
    with worker.pool() as pool:
        sweep = Sweep(block, prepare, best, worker, pool)
        for call in calls:
            told = []
            for described, places in sweep.run(call, lambda shard, rows, _: (shard.start, rows.start)):
                told.append(described)
                visited += list(places)
            assert told == [f"from {rows.start}" for rows in call]
    return best


ONE_CALL = [[slice(start, start + 20) for start in range(0, TRAINING, 20)]]
SEVERAL_CALLS = [[slice(60, 90), slice(0, 35)], [slice(90, TRAINING)], [slice(35, 60)]]


@pytest.mark.parametrize("calls", [ONE_CALL, SEVERAL_CALLS], ids=["one call", "several calls"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("kept_bytes", "pairs"), [(2**28, 2**23), (0, 2**23), (9000, 2**23), (2**28, 0)])
def test_the_best_are_those_of_brute_force(
    threads: int, calls: list[list[slice]], kept_bytes, pairs, monkeypatch
) -> None:
    """However many shards and pairs may wait: all of a call, those of two or three shards, none."""
    monkeypatch.setattr("relatif.pipeline.devices.CPU_TILE_ROWS", 8)
    monkeypatch.setattr("relatif.pipeline.influence.sweep.WAITING_BYTES", kept_bytes)
    monkeypatch.setattr("relatif.pipeline.influence.sweep.WAITING_PAIRS", pairs)
    visited: list[tuple[int, int]] = []

    best = swept(Worker(threads), calls, visited)

    expected = brute_force(problems.rotated(5, shapes=((4, 9), (3, 7)), test=TESTS, train=TRAINING)).scores
    expected["nearest_neighbour"] = scores.nearest_neighbour(inputs(1, TESTS).numpy(), inputs(2, TRAINING).numpy())
    assert set(best) == set(METHODS) == {*SCORED_METHODS, "nearest_neighbour"}
    for method, found in best.items():
        indices, values = scores.top_k(expected[method].astype(np.float32), K)
        np.testing.assert_array_equal(found.indices.numpy(), indices, err_msg=method)
        np.testing.assert_allclose(found.scores.numpy(), values, rtol=1e-6, err_msg=method)
    # Every tile is seen once, in order.
    assert visited == [(rows.start, start) for call in calls for rows in call for start in range(0, TESTS, 8)]


def test_a_block_without_methods_by_distance_measures_none() -> None:
    problem = problems.rotated(0)
    curvature = curvature_in(problem)
    block = partial(block_of, curvature, rotated_gradients(problem.test), torch.zeros(9, 1))(SCREENING_FLOAT32)
    assert block.distance is METHODS["nearest_neighbour"]
    assert set(empty_best(block, 2)) == set(METHODS)


def test_a_shard_too_many_is_not_kept(monkeypatch) -> None:
    """Exact scores are there as soon as another shard would not fit beside those that wait."""
    problem = problems.rotated(3, shapes=((4, 9),), test=5, train=60)
    curvature = curvature_in(problem)
    block = block_of(curvature, rotated_gradients(problem.test), inputs(1, 5), SCREENING_FLOAT32)

    def prepare(rows: slice) -> tuple[TrainShard, None]:
        return shard_of(block, curvature, rotated_gradients(problem.train, rows), inputs(2, 10), start=rows.start), None

    shards = [slice(start, start + 10) for start in range(0, 60, 10)]
    monkeypatch.setattr("relatif.pipeline.influence.sweep.WAITING_BYTES", 2 * prepare(shards[0])[0].nbytes)
    best = empty_best(block, 3)
    filled = []
    with Worker(1).pool() as pool:
        for _, places in Sweep(block, prepare, best, Worker(1), pool).run(shards, lambda *_: None):
            filled.append(bool(best["influence"].scores.isfinite().all()))
            list(places)

    assert filled == [False, False, True, True, True, True]
    assert prepare(shards[0])[0].nbytes >= 10 * (4 + 9) * 8

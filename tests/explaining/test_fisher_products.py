"""Products with the training set's Fisher against the dense matrix, for any number of threads."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature import capture
from relatif.pipeline.curvature.exact import fisher_strips, joint_matrix, strips_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.covered import load_covered_model
from relatif.pipeline.explaining.fisher_products import FisherProducts
from relatif.pipeline.runs import source as source_module
from relatif.pipeline.runs.run import Run
from tests.support.images import PERCEPTRON, write_images
from tests.support.runs import config, run_named

TRAINING = 130
EXACT = 1e-11
"""Relative to the largest entry: float64 sums of a few hundred terms in another order."""


@pytest.fixture(scope="module", params=["exact", "sampled"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Run:
    data = write_images(tmp_path_factory.mktemp("data"), train=TRAINING, rows_per_group=10)
    made = config(data, "data.shard_rows=50", f"curvature.fisher={request.param}", task=PERCEPTRON)
    return run_named(made, tmp_path_factory.mktemp("runs"), "train")


def product_source(run: Run, threads: int = 1) -> FisherProducts:
    copies = [load_covered_model(run.source, run.task, run.config.curvature) for _ in range(threads)]
    return FisherProducts(run.source, run.train_shards, copies, Worker(threads))


def dense(run: Run) -> tuple[Tensor, Tensor]:
    """Return the mean Fisher over all rows, and over rows 64 to 127 and 128 to 129 together."""
    subject = load_covered_model(run.source, run.task, run.config.curvature)
    parts = [run.source.examples(run.task, shard) for shard in run.train_shards]
    inputs, labels = torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
    matrices = []
    for start in (0, 64):
        examples = Examples(inputs[start:], labels[start:], start)
        lower = joint_matrix(subject.coverage, fisher_strips(subject, examples, strips_of(subject.coverage))).tril()
        matrices.append((lower + lower.tril(-1).T) / (TRAINING - start))
    return matrices[0], matrices[1]


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


def test_products_with_the_whole_set_and_with_runs_of_rows(run: Run) -> None:
    source = product_source(run)
    whole, runs = dense(run)
    vectors = torch.randn(7, len(whole), dtype=torch.float64)
    assert source.run_count == 3
    assert_close(source.product(vectors), vectors @ whole)
    assert_close(source.batch_product(vectors, [1, 2]), vectors @ runs)
    # A run that is drawn twice counts twice.
    twice = (64 * source.batch_product(vectors, [1]) * 2 + 2 * source.batch_product(vectors, [2])) / 130
    assert_close(source.batch_product(vectors, [1, 2, 1]), twice)


def test_threads_change_no_bit(run: Run) -> None:
    vectors = torch.randn(3, len(dense(run)[0]), dtype=torch.float64)
    one, three = product_source(run, 1), product_source(run, 3)
    assert torch.equal(one.product(vectors), three.product(vectors))
    assert torch.equal(one.batch_product(vectors, [0, 2, 1]), three.batch_product(vectors, [0, 2, 1]))


def test_stored_inputs_are_read_once_for_batches(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source, vectors = product_source(run), torch.randn(1, len(dense(run)[0]), dtype=torch.float64)
    read, calls = source_module.read_shard, []
    monkeypatch.setattr(source_module, "read_shard", lambda *args: calls.append(1) or read(*args))
    for run_number in (0, 1, 0):
        source.batch_product(vectors, [run_number])
    assert len(calls) == len(run.train_shards)


def test_passes_over_the_same_rows_are_proven_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source, vectors = product_source(run), torch.randn(2, len(dense(run)[0]), dtype=torch.float64)
    proven: list[int] = []
    check = capture.check_alone
    monkeypatch.setattr(
        capture,
        "check_alone",
        lambda *given, first_index: proven.append(first_index) or check(*given, first_index=first_index),
    )
    first = source.product(vectors)
    assert {0, 50, 100} <= set(proven)
    proven.clear()
    assert torch.equal(source.product(vectors), first)
    assert proven == []

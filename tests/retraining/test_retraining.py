"""Retraining: on the whole training set nothing changes at all, and losses are those of the model."""

import pytest
import torch
from torch import nn

from relatif.pipeline.devices import Worker
from relatif.pipeline.retraining.removals import parameter_change
from relatif.pipeline.retraining.retraining import measured_rows, model_state, train_losses
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.training_sets import hold
from relatif.pipeline.storage.tensors import read_tensors
from relatif.pipeline.tasks.task import load_model
from relatif.schemas import run_directory
from tests.support.images import CLASSES, SIDE
from tests.support.retrained import plan_of, start, trained_source

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Source:
    return trained_source(tmp_path_factory.mktemp("trained"))


def test_without_a_removal_nothing_changes_at_all(trained: Source) -> None:
    plan = plan_of(trained)
    start(plan, Worker())
    held = plan.load(Worker(2))
    state = held.on(held.data, plan.config)
    reference = read_tensors(trained.store, run_directory.REFERENCE)
    before = model_state(reference)
    assert set(state) == set(before) == {"linear.weight", "linear.bias"}
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert float(parameter_change(held.task, state, before)) == 0.0
    assert float((train_losses(held.task, state, held.data) - reference["losses"]).norm()) == 0.0


def test_losses_are_those_of_the_model_in_float64(trained: Source) -> None:
    task = trained.load_task()
    generator = torch.Generator().manual_seed(0)
    state = {
        "linear.weight": torch.randn(CLASSES, SIDE**2, generator=generator, dtype=torch.float64),
        "linear.bias": torch.randn(CLASSES, generator=generator, dtype=torch.float64),
    }
    worker = Worker(2)
    with worker.pool() as pool:
        data = hold(trained, trained.dataset.shards("train", rows=50), worker, pool)
        losses = train_losses(task, state, data)
    stored, labels = (torch.cat([getattr(part, name) for part in data.shards]) for name in ("inputs", "labels"))
    logits = (stored.float() / 255).double().flatten(1) @ state["linear.weight"].T + state["linear.bias"]
    expected = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-13, atol=1e-13)
    one = measured_rows(task, load_model(task, state), (stored[11:12], labels[11:12]))
    assert float(one) == pytest.approx(float(expected[11]), rel=1e-13)

"""Random subsets: of equal size, by seed and number alone; models trained on them are those of their examples."""

from pathlib import Path

import numpy as np
import pytest
import torch

from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.retraining.subsets import SubsetPlan, Subsets, SubsetUnit
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.tensors import read_tensors
from relatif.schemas.errors import ConfigurationError
from tests.reference import softmax, training
from tests.support.images import CLASSES, features
from tests.support.retrained import DECAY, plan_of, start, trained_source

pytestmark = pytest.mark.usefixtures("local_ray")

CLOSE = 1e-7
"""Parameters of order 1: a search ends with a step of 1e-9, whose error curvatures from 0.05 on can't multiply much."""


def test_subsets_have_equal_size_and_depend_on_seed_and_number_alone() -> None:
    subsets = Subsets(101, 0.5, 7)
    mask = subsets.mask(6)
    assert mask.shape == (101, 6)
    assert mask.sum(dim=0).tolist() == [50] * 6
    assert all(mask[:, number].equal(Subsets(101, 0.5, 7).members(number)) for number in range(6))
    different = {tuple(members.tolist()) for members in (*mask.T, Subsets(101, 0.5, 8).members(0))}
    assert len(different) == 7


def test_a_larger_share_holds_the_smaller_one() -> None:
    small, large = Subsets(1000, 0.2, 0).members(3), Subsets(1000, 0.6, 0).members(3)
    assert (int(small.sum()), int(large.sum())) == (200, 600)
    assert bool(large[small].all())


def test_every_example_and_every_pair_is_as_likely_as_any_other() -> None:
    mask = Subsets(20, 0.5, 3).mask(4000).double()
    together = mask @ mask.T
    # A pair of different rows is in a half of 20 with probability 10 / 20 * 9 / 19.
    expected = torch.full((20, 20), 4000 * 9 / 38).fill_diagonal_(2000)
    assert float((together - expected).abs().max()) < 5 * (4000 * 0.25) ** 0.5


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_of_none_or_all_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match=r"linear_datamodeling.subset_share to choose some but not all of 100"):
        Subsets(100, share, 0).members(0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Source:
    return trained_source(tmp_path_factory.mktemp("trained"))


def test_models_are_those_of_the_subsets_examples_bit_by_bit_for_any_threads(trained: Source) -> None:
    plan, subsets, found = plan_of(trained), Subsets(200, 0.5, 0), []
    start(plan, Worker())
    for threads, numbers in ((1, (0, 4)), (2, (4, 0))):
        trainer = SubsetPlan(subsets, plan)(Worker(threads))
        proofs = {number: trainer(SubsetUnit(number, 0, "digest")) for number in numbers}
        found.append([proofs[number].outputs[0].sha256 for number in (0, 4)])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]

    examples = [read_shard(trained.data, trained.dataset, shard) for shard in plan.shards]
    inputs = features(np.concatenate([part.inputs.numpy() for part in examples]))
    labels = np.concatenate([part.labels.numpy() for part in examples])
    members = subsets.members(4).numpy()
    expected = training.optimum(inputs[members], labels[members], CLASSES, weight_decay=DECAY)
    state = read_tensors(trained.store, SubsetUnit(4, 0, "digest").file)
    mine = softmax.fold(state["linear.weight"].double().numpy(), state["linear.bias"].double().numpy())
    np.testing.assert_allclose(mine, expected, atol=CLOSE)


def test_repeats_have_files_of_their_own() -> None:
    paths = {path for repeat in (0, 1) for unit in [SubsetUnit(3, repeat, "")] for path in (unit.file, unit.manifest)}
    assert len(paths) == 4
    assert all(Path(path).name.startswith("subset-00003-") for path in paths)

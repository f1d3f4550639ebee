"""Random numbers by row: SplitMix64 against its published output, and rows drawn without replacement."""

import pytest
import torch

from relatif.pipeline.draws import sampled_rows, uniform

MASK = (1 << 64) - 1
DEVIATIONS = 5
"""Standard deviations of a count: a correct draw goes beyond them once in two million."""


def splitmix(state: int) -> int:
    """One output of SplitMix64 in Python's integers."""
    mixed = (state + 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def test_the_generator_is_splitmix64() -> None:
    assert splitmix(0) == 0xE220A8397B1DCDAF, "the first output of the reference implementation at seed 0"
    rows = torch.tensor([0, 1, 59_999, 2**40])
    for seed, draw in ((0, 0), (7, 3)):
        expected = [splitmix(splitmix(splitmix(seed) + draw) + int(row)) >> 11 for row in rows]
        assert (uniform(rows, seed, draw) * 2**53).long().tolist() == expected


def test_numbers_are_uniform_from_0_to_below_1() -> None:
    count, parts = 50_000, 10
    found = uniform(torch.arange(count), 3, 1)
    assert found.dtype == torch.float64
    assert 0 <= float(found.min()) < float(found.max()) < 1
    counts = (found * parts).long().bincount(minlength=parts)
    allowed = DEVIATIONS * (count / parts * (1 - 1 / parts)) ** 0.5
    assert float((counts - count / parts).abs().max()) < allowed


def test_a_rows_number_depends_on_seed_draw_and_row_alone() -> None:
    rows = torch.arange(1000)
    whole = uniform(rows, 5, 2)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(rows[order], 5, 2), whole[order])
    assert torch.equal(uniform(rows[137:138], 5, 2), whole[137:138])
    assert not bool((uniform(rows, 6, 2) == whole).any())
    assert not bool((uniform(rows, 5, 3) == whole).any())


@pytest.mark.parametrize("count", [1, 7, 20])
def test_drawn_rows_are_distinct_and_in_rising_order(count: int) -> None:
    found = sampled_rows(20, count, seed=1)
    assert len(found) == count
    assert sorted(set(found)) == found
    assert set(found) <= set(range(20))
    assert sampled_rows(20, count, seed=1) == found


def test_more_rows_than_there_are_keep_them_all() -> None:
    assert sampled_rows(4, 9, seed=0) == [0, 1, 2, 3]


def test_every_row_is_drawn_alike_and_by_the_seed() -> None:
    trials, rows, count = 2000, 8, 3
    drawn = torch.tensor([sampled_rows(rows, count, seed) for seed in range(trials)])
    counts, share = drawn.flatten().bincount(minlength=rows), count / rows
    assert float((counts - trials * share).abs().max()) < DEVIATIONS * (trials * share * (1 - share)) ** 0.5


def test_drawing_rows_leaves_torchs_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    sampled_rows(20, 5, seed=1)
    assert torch.equal(torch.get_rng_state(), before)

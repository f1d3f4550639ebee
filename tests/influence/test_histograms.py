"""Histograms of scores, compared with counting one by one."""

import pytest
import torch

from relatif.pipeline.influence import histograms as module
from relatif.pipeline.influence.histograms import BINS, Histograms, histograms


def test_counts_are_those_of_one_score_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    # Quarters, weights and lengths that are powers of 2: every product and border is exact.
    tiles = torch.randint(-64, 65, (5, 400), generator=generator) / 64
    tiles[:, 0], tiles[:, 1] = -1.0, 1.0
    weights, lengths = torch.full((400,), 0.5), torch.tensor([1.0, 2.0, 0.25, 8.0, 0.0])
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 800)  # two queries at once
    found = histograms(tiles, lengths, weights)
    for query, length in enumerate(lengths.tolist()):
        scores = [float(value) * length / 2 for value in tiles[query]]
        low, high = min(scores), max(scores)
        width = (high - low) / BINS
        counts = [0] * BINS
        for score in scores:
            counts[min(BINS - 1, int((score - low) / width) if width else 0)] += 1
        assert found.counts[query].tolist() == counts
        assert (found.low[query], found.high[query]) == (low, high)
        assert int(found.above[query]) == sum(score > 0 for score in scores)
        assert int(found.below[query]) == sum(score < 0 for score in scores)


def test_parts_are_joined_in_order() -> None:
    tiles = torch.tensor([[0.0, 1.0], [2.0, -3.0]])
    whole = histograms(tiles, torch.ones(2), torch.ones(2))
    parts = [histograms(tiles[row : row + 1], torch.ones(1), torch.ones(2)) for row in range(2)]
    joined = Histograms.joined(parts)
    assert torch.equal(whole.counts, joined.counts)
    assert torch.equal(whole.below, joined.below)

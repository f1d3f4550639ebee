"""Texts of single rows, and rows by their text: only the row groups that are needed are read."""

from collections.abc import Iterable

from relatif.pipeline.datasets.description import Split
from relatif.pipeline.datasets.shards import PreparedDataset, read_shard_texts
from relatif.pipeline.storage.store import Store


def texts_of_rows(store: Store, dataset: PreparedDataset, split: Split, rows: Iterable[int]) -> dict[int, str]:
    """Return the texts of some rows of a split by row; raises as ``read_shard_texts`` does, IndexError beyond it."""
    wanted = set(rows)
    found: dict[int, str] = {}
    for group in dataset.shards(split, rows=1):
        here = sorted(row for row in wanted if group.start <= row < group.stop)
        if here:
            texts = read_shard_texts(store, dataset, group)
            found.update((row, texts[row - group.start]) for row in here)
    if len(found) < len(wanted):
        raise IndexError(
            f"expected rows of {dataset.name}/{split} from 0 to {dataset.rows(split) - 1}, found "
            f"{sorted(wanted - set(found))}"
        )
    return found


def first_row_of_text(store: Store, dataset: PreparedDataset, split: Split, text: str) -> int | None:
    """Return the first row of a split with this text, or None; raises as ``read_shard_texts`` does."""
    for group in dataset.shards(split, rows=1):
        texts = read_shard_texts(store, dataset, group)
        if text in texts:
            return group.start + texts.index(text)
    return None

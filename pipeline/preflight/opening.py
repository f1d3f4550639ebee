"""A run opened only to look at it: published data is not prepared for that, its first rows are laid out elsewhere."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from relatif.pipeline.datasets.description import Split
from relatif.pipeline.datasets.excerpt import write_excerpt
from relatif.pipeline.datasets.preparing import Published, prepared_in
from relatif.pipeline.datasets.published import PREPARED, detect, open_source, read_source
from relatif.pipeline.datasets.renewing import kept_for_looking, renewal
from relatif.pipeline.datasets.shards import PreparedDataset, Shard
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import RunConfig

HEAD_ROWS, HEAD_BYTES = 256, 8 * 2**20
"""Rows of each split that are looked at, fewer where they are large."""


Reader = Callable[[Store, Reading], Published]


@contextmanager
def opened(config: RunConfig, out: str, read: Reader = read_source) -> Iterator[Run]:
    """Yield the run that a job with these settings works on; nothing is written to ``out``.

    Of published data that is not prepared there yet, the first rows alone can be read. Raises as ``open_run`` does.
    """
    with tempfile.TemporaryDirectory(prefix="relatif-") as folder:
        yield open_run(config, out, partial(_open_head, open_store(folder), read))


def is_head(run: Run) -> bool:
    """Return whether a run's data is published data of which the first rows alone can be read."""
    return run.data.url not in (open_store(run.config.data.source).url, run.store.child("data").url)


def head(run: Run, split: Split, rows: int = HEAD_ROWS) -> tuple[Shard, ...]:
    """Return the first rows of a split as shards, at most ``rows`` and at least one."""
    small = max(1, HEAD_BYTES // run.dataset.description.row_bytes)
    limit = min(rows, small, _rows(run, split))
    return run.dataset.shards(split, rows=run.config.data.shard_rows, limit=limit)


def last(run: Run, split: Split) -> Shard | None:
    """Return the last row group of a split that the run reads as a shard; None where only the first rows are there."""
    if is_head(run):
        return None
    return run.dataset.shards(split, rows=1, limit=_rows(run, split))[-1]


def _rows(run: Run, split: Split) -> int:
    return {"train": run.train_rows, "test": run.test_rows}.get(split, run.scored_rows)


def _open_head(
    folder: Store, read: Reader, source: Store, out: Store, reading: Reading
) -> tuple[Store, PreparedDataset]:
    if detect(source) == PREPARED:
        return open_source(source, out, reading)
    published = read(source, reading)
    if reading.begun is None:
        there = prepared_in(out, published)
        return (folder, write_excerpt(folder, published)) if there is None else (out, there)
    asked = renewal(source, out, published, reading, reading.begun)
    if asked.nothing_new is not None:
        return out, asked.nothing_new
    kept = kept_for_looking(asked, folder.child("compared"))
    return folder, write_excerpt(folder, published, kept=kept)

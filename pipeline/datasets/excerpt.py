"""The first rows of a published data set, laid out as the whole of it will be: to look at it before it is prepared."""

from collections.abc import Iterable, Iterator, Mapping

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import (
    FORMAT,
    DatasetDescription,
    PartDescription,
    Split,
    SplitDescription,
)
from relatif.pipeline.datasets.preparing import Published
from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.datasets.writing import ROWS_PER_FILE, part_path, write_chunks
from relatif.pipeline.storage.store import Store

EXCERPT_ROWS, EXCERPT_BYTES = 1000, 64 * 2**20
"""Rows of each split that are written, fewer where they are large, in whole row groups and at least one of them."""


NOTHING_KEPT: Mapping[Split, SplitDescription] = {}


def write_excerpt(
    folder: Store,
    published: Published,
    rows: int = EXCERPT_ROWS,
    kept: Mapping[Split, SplitDescription] = NOTHING_KEPT,
) -> PreparedDataset:
    """Write the first ``rows`` of every split to ``folder``; return the data set as it will be once it is prepared.

    All rows are described, in the files and row groups that preparing makes; the first ones alone can be read. ``kept``
    are splits that are prepared already, whose contents are known. Raises what reading a chunk raises.
    """
    group = min(published.rows_per_group, ROWS_PER_FILE)
    rows = min(rows, EXCERPT_BYTES // published.subject.row_bytes)
    count = min(max(group, rows // group * group), ROWS_PER_FILE)
    heads = {split: _head(chunks, count) for split, chunks in published.splits.items()}
    write_chunks(folder, published.subject, heads, rows_per_group=group)
    splits = {
        split: SplitDescription(rows=total, files=tuple(_layout(split, total, group)))
        if split not in kept
        else _renamed(kept[split], split)
        for split, total in published.rows.items()
    }
    described = DatasetDescription(**dict(published.subject), format=FORMAT, splits=splits)
    return PreparedDataset(described, ids=published.ids)


def _head(chunks: Iterable[Chunk], rows: int) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk.rows(0, rows)
        rows -= len(chunk)
        if rows <= 0:
            return


def _layout(split: str, total: int, group: int) -> Iterator[PartDescription]:
    for number, start in enumerate(range(0, total, ROWS_PER_FILE)):
        rows = min(ROWS_PER_FILE, total - start)
        sizes = tuple(min(group, rows - first) for first in range(0, rows, group))
        yield PartDescription(path=part_path(split, number), rows=rows, row_groups=sizes, bytes=0, sha256="")


def _renamed(described: SplitDescription, split: str) -> SplitDescription:
    files = [part.model_copy(update={"path": part_path(split, n)}) for n, part in enumerate(described.files)]
    return described.model_copy(update={"files": tuple(files)})

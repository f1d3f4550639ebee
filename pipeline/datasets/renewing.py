"""Data of a run that was begun, taken in anew part by part: the training part stays as results were made from it.

New files lie beside the old ones until the description, which is replaced whole, names them: after a crash at any
moment either the old data set is there or the new one, and the same command goes on.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from relatif.pipeline.console import say
from relatif.pipeline.datasets.description import (
    DECIDING,
    FORMAT,
    DatasetDescription,
    PartDescription,
    Split,
    SplitDescription,
)
from relatif.pipeline.datasets.preparing import Published, differing, find_description, is_made_of
from relatif.pipeline.datasets.shards import PreparedDataset, StoredExamples, read_shard, read_shard_ids
from relatif.pipeline.datasets.tables.reading import Begun, Reading
from relatif.pipeline.datasets.verifying import verify_files
from relatif.pipeline.datasets.writing import ROWS_PER_FILE, delete_split, publish_description, write_split
from relatif.pipeline.inputs import named
from relatif.pipeline.storage.store import Store
from relatif.schemas.digests import digest
from relatif.schemas.errors import DataError

PART = re.compile(r"part-\d{5}\.parquet")

COMPARED = DECIDING - {"format", "name"}
"""Fields of a description that decide how rows are read."""

SHOWN = 3
"""Files that a message names."""


@dataclass(frozen=True, eq=False)
class Renewal:
    """What is asked for beside what is there; ``kept`` are the parts whose rows surely stay as they are, and are whole.

    ``train`` is the name of the training part, ``source`` is where the published data lies, ``out`` where it was
    prepared.
    """

    source: Store
    out: Store
    published: Published
    train: Split
    begun: Begun
    there: DatasetDescription | None
    kept: Mapping[Split, SplitDescription]

    @property
    def nothing_new(self) -> PreparedDataset | None:
        """The data set that is there, if it is whole and the one that is asked for."""
        wanted = set(self.published.splits)
        same = self.there is not None and wanted <= set(self.kept) and is_made_of(self.there, self.published)
        return PreparedDataset(self.there) if same and self.there is not None else None

    def folder(self, part: Split) -> str:
        """Return the folder for a part's new files, one that holds none of the data set that is there.

        Damaged files of the same data are replaced where they lie, and those that no description names.
        """
        there = self.there
        if there is not None and is_made_of(there, self.published):
            return posixpath.dirname(there.splits[part].files[0].path)
        if there is None or not self.out.list(part):
            return part
        described = [each.model_dump(mode="json") for each in (there, self.published.subject)]
        return f"{part}-{digest(described)[:12]}"

    def written(self, part: Split, into: Store) -> SplitDescription:
        """Write a part; return it, or what is there already where that is whole and holds the same."""
        cut = (ROWS_PER_FILE, self.published.rows_per_group)
        subject, chunks = self.published.subject, self.published.splits[part]
        made = write_split(into, subject, part, chunks, folder=self.folder(part), cut=cut)
        before = None if self.there is None else self.there.splits.get(part)
        if self.there is None or before is None or before == made or not is_whole(self.out, self.there, part):
            return made
        old, new = PreparedDataset(self.there), PreparedDataset(self.described({part: made}))
        # Files of the same rows may differ in what is said beside them, or by the version that wrote them.
        if _contents(before) != _contents(made) and not have_same_rows((self.out, old), (into, new), part):
            return made
        delete_split(into, made)
        return before

    def require_training(self, described: SplitDescription) -> None:
        """Raise DataError where the training part is another than results were made from."""
        found = self.described({self.train: described}).part_fingerprint(self.train)
        if self.begun.train not in (None, found):
            raise self.refusal()

    def described(self, splits: Mapping[Split, SplitDescription]) -> DatasetDescription:
        """Return the description of parts as what is asked for."""
        return DatasetDescription(**dict(self.published.subject), format=FORMAT, splits=dict(splits))

    def refusal(self) -> DataError:
        """Return the error that says in what the training part is another."""
        out = self.out.describe()
        return DataError(
            f"expected the training part of {self.source.describe()} as it was when results were made from {out}, "
            f"found {self._changed()}; set it back, or choose another --out; nothing was touched"
        )

    def _changed(self) -> str:
        there, published = self.there, self.published
        files = changed_files(there, published, self.train)
        if files:
            more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
            return f"{', '.join(self.source.describe(path) for path in files[:SHOWN])}{more} changed"
        others = [] if there is None else [each for each in differing(there, published.subject) if each != "provenance"]
        if others and there is not None:
            before, now = ([*each.shape] for each in (there.input, published.subject.input))
            shapes = f" (shape {now} in place of {before})" if before != now else ""
            return f"another {' and '.join(others)}{shapes}"
        told = [] if there is None else provenance_changes(there, published)
        if told:
            return f"it read otherwise ({', '.join(told)})"
        read = {receipt.path for receipt in published.subject.provenance.sources}
        gone = [] if there is None else [each.path for each in there.provenance.sources if each.path not in read]
        if gone:
            return f"other rows, and {self.source.describe(gone[0])} no longer read"
        return "other rows in files that are as they were (all files together settle the types of columns)"


def renewal(source: Store, out: Store, published: Published, reading: Reading, begun: Begun) -> Renewal:
    """Return what is to be done for data that was begun with; DataError where it can be told at once that it can't."""
    there = find_description(out)
    same = {} if there is None else surely_same(there, published)
    kept = {part: each for part, each in same.items() if there is not None and is_whole(out, there, part)}
    found = Renewal(source, out, published, reading.config.part_names[0], begun, there, kept)
    if there is not None and not is_made_of(there, published):
        if begun.train is None:
            raise DataError(
                f"expected {out.describe()} to hold the data set of {source.describe()}, found another "
                f"{', '.join(differing(there, published.subject)) or 'choice of parts'}; choose another --out"
            )
        if any(getattr(there, name) != getattr(published.subject, name) for name in COMPARED):
            raise found.refusal()
    return found


def renewed(asked: Renewal) -> PreparedDataset:
    """Return the data set that is asked for, its changed parts written anew; raises DataError as ``Renewal`` does."""
    there = asked.nothing_new
    if there is not None:
        _tidy(asked.out, there.description)
        return there
    out, published, parts = asked.out, asked.published, dict(asked.kept)
    try:
        for part in sorted(published.splits, key=lambda name: name != asked.train):
            if part not in parts:
                parts[part] = asked.written(part, out)
            if part == asked.train:
                asked.require_training(parts[part])
        if asked.begun.train is None and asked.begun.whole not in (None, asked.described(parts).fingerprint):
            raise asked.refusal()
    except BaseException:
        named = {each.path for each in _files(asked.there)}
        for path in (each.path for part in parts.values() for each in part.files if each.path not in named):
            out.delete(path)
        raise
    return _published(asked, {part: parts[part] for part in published.splits})


def kept_for_looking(asked: Renewal, folder: Store) -> Mapping[Split, SplitDescription]:
    """Return the parts that stay as they are, written to a folder to be compared where that can't be told otherwise.

    Raises DataError where the training part is another.
    """
    kept = dict(asked.kept)
    if asked.train not in kept and asked.begun.train is not None:
        made = asked.written(asked.train, folder)
        kept[asked.train] = made
    if asked.train in kept:
        asked.require_training(kept[asked.train])
    return kept


def surely_same(there: DatasetDescription, published: Published) -> dict[Split, SplitDescription]:
    """Return the parts of a data set that hold what is asked for, as all is the same that decides their rows."""
    if any(getattr(there, name) != getattr(published.subject, name) for name in DECIDING - {"format"}):
        return {}
    same, known = is_made_of(there, published), there.made_from or {}
    return {
        part: there.splits[part]
        for part in published.splits
        if part in there.splits and (same or (part in known and known[part] == published.made_from.get(part)))
    }


def changed_files(there: DatasetDescription | None, published: Published, part: Split) -> list[str]:
    """Return the files of a part that are not as a data set was made from; all where no data set is there."""
    now = {receipt.path: receipt.sha256 for receipt in published.subject.provenance.sources}
    before = {} if there is None else {receipt.path: receipt.sha256 for receipt in there.provenance.sources}
    return [path for path in published.files.get(part, tuple(now)) if before.get(path) != now[path]]


def provenance_changes(there: DatasetDescription, published: Published) -> list[str]:
    """Return what was said of where the data comes from and is not said any more, but for its files."""
    before, now = there.provenance, published.subject.provenance
    names = [name for name in type(now).model_fields if name != "sources"]
    return [name.replace("_", " ") for name in names if getattr(before, name) != getattr(now, name)]


def have_same_rows(one: tuple[Store, PreparedDataset], other: tuple[Store, PreparedDataset], part: Split) -> bool:
    """Return whether a part of two data sets has the same inputs, targets and identifiers, row by row."""
    if {field: getattr(one[1].description, field) for field in COMPARED} != {
        field: getattr(other[1].description, field) for field in COMPARED
    }:
        return False
    cut = [dataset.shards(part, rows=ROWS_PER_FILE) for _, dataset in (one, other)]
    if [shard.stop for shard in cut[0]] != [shard.stop for shard in cut[1]]:
        return False
    return all(
        _equal(*(read_shard(*place, shard) for place, shard in zip((one, other), pair, strict=True)))
        and read_shard_ids(*one, pair[0]) == read_shard_ids(*other, pair[1])
        for pair in zip(*cut, strict=True)
    )


def _equal(one: StoredExamples, other: StoredExamples) -> bool:
    values = [[*named(each.inputs).values(), each.targets] for each in (one, other)]
    return all(torch.equal(*pair) for pair in zip(*values, strict=True))


def is_whole(out: Store, described: DatasetDescription, part: Split) -> bool:
    """Return whether the files of a part are those that are described."""
    try:
        verify_files(out, described.model_copy(update={"splits": {part: described.splits[part]}}))
    except DataError:
        return False
    return True


def _published(asked: Renewal, parts: Mapping[Split, SplitDescription]) -> PreparedDataset:
    there, out = asked.there, asked.out
    described = asked.described(parts)
    if there is not None and there.made_from is None and there.fingerprint == described.fingerprint:
        # A record of an earlier version names the description by its bytes.
        described = there
    else:
        described = publish_description(out, asked.published.subject, parts, asked.published.made_from)
    _tidy(out, described)
    before = {} if there is None else there.splits
    new = [part for part in parts if part != asked.train and before.get(part) != parts[part]]
    if there is not None and new:
        say(f"data: {' and '.join(new)} taken from {asked.source.describe()} anew, {asked.train} stays as it is")
    return PreparedDataset(described)


def _tidy(out: Store, described: DatasetDescription) -> None:
    """Remove files of parts that the description does not name: they were replaced, or never finished."""
    named = {each.path for each in _files(described)}
    for folder in out.folders(""):
        for path in out.list(folder):
            if path not in named and PART.fullmatch(posixpath.basename(path)):
                out.delete(path)
        out.delete_empty(folder)


def _files(described: DatasetDescription | None) -> list[PartDescription]:
    return [] if described is None else [part for split in described.splits.values() for part in split.files]


def _contents(described: SplitDescription) -> list[tuple[str, tuple[int, ...]]]:
    return [(part.sha256, part.row_groups) for part in described.files]

"""Files of a table: of which kind they are, to which part of the data they belong, and in which order.

A part is a folder or the beginning of a file's name: ``train/0000.parquet``, ``default/partial-train/0.parquet``,
``train.csv``, ``train-00000-of-00002.parquet``. Folders ``column=value`` add a column.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from relatif.pipeline.datasets.description import DATASET_JSON
from relatif.pipeline.datasets.shard_names import require_numbered
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.run_directory import RUN_JSON

PARQUET, CSV, JSON, PICTURE = "Parquet", "CSV", "JSON Lines", "picture"
SUFFIXES = {
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".csv": CSV,
    ".tsv": CSV,
    ".jsonl": JSON,
    ".ndjson": JSON,
    ".json": JSON,
    ".jpg": PICTURE,
    ".jpeg": PICTURE,
    ".png": PICTURE,
}
PARTS = ("train", "test", "validation", "valid", "val", "dev", "training", "testing", "unsupervised")
"""Names that are taken for those of parts, beside those that the settings name."""

DEEPEST = 12
"""Levels of folders that are looked into: a symbolic link may lead around in a circle."""

OTHER_PICTURES = (".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".heic", ".avif")
"""Pictures that aren't read: beside those that are, leaving them out would change the data."""

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""Name of the folder of rows without a value of the column."""

_PARTIAL = "partial-"
_KEY = re.compile(r"([^=/]+)=([^/]*)")


@dataclass(frozen=True)
class TableFile:
    """A file by its path below the source, with its part (None where no name tells one) and its columns ``keys``.

    ``folder`` is what lies above the part: that of the whole table; ``below`` are the folders between.
    """

    path: str
    kind: str
    part: str | None
    keys: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    below: tuple[str, ...] = ()


def table_files(source: Store, names: Sequence[str]) -> list[TableFile]:
    """Return the files of the table in ``source``, a folder or one file, in the order of their rows.

    ``names`` are further names of parts. Raises DataError where there are several tables, kinds of files in one, or
    shards missing. A list without any file is no table.
    """
    if source.size("") is not None:
        kind = _kind(source.url)
        return [] if kind in (None, PICTURE) else [TableFile("", str(kind), None)]
    known = sorted({*PARTS, *names}, key=len, reverse=True)
    paths = list(_walk(source, ""))
    found = [_placed(path, kind, known) for path in paths if (kind := _kind(path)) is not None]
    tables = [file for file in found if file.kind != PICTURE]
    if found and not tables:
        _refuse_other_pictures(source, paths)
    chosen = tables or found
    named = [file for file in chosen if file.part is not None]
    chosen = named or chosen
    _require_one_table(source, chosen)
    if tables:
        require_numbered([file.path for file in chosen], source.describe())
    return chosen


def _walk(source: Store, folder: str, depth: int = 0) -> Iterator[str]:
    """Yield the files below a folder, sorted by path; names that begin with a dot or underscore are others' own.

    Runs and prepared data below the source are no part of its table: ``--out`` may lie there.
    """
    if folder and any(source.exists(f"{folder}/{name}") for name in (RUN_JSON, DATASET_JSON)):
        return
    here = [path for path in source.list(folder) if not _hidden(path)]
    folders = [path for path in source.folders(folder) if not _hidden(path)] if depth < DEEPEST else []
    for path in sorted([*here, *folders]):
        if path in folders:
            yield from _walk(source, path, depth + 1)
        else:
            yield path


def _hidden(path: str) -> bool:
    return posixpath.basename(path)[0] in "._"


def _kind(path: str) -> str | None:
    name = posixpath.basename(path).lower().removesuffix(".gz")
    kind = SUFFIXES.get(posixpath.splitext(name)[1])
    return None if kind == PICTURE and path.lower().endswith(".gz") else kind


def _placed(path: str, kind: str, known: Sequence[str]) -> TableFile:
    *folders, name = path.split("/")
    keys = tuple((match[1], unquote(match[2])) for each in folders if (match := _KEY.fullmatch(each)))
    plain = [each for each in folders if not _KEY.fullmatch(each)]
    for place, each in enumerate(plain):
        if each.removeprefix(_PARTIAL) in known:
            part, below = each.removeprefix(_PARTIAL), tuple(plain[place + 1 :])
            return TableFile(path, kind, part, keys, "/".join(plain[:place]), below)
    begins = (each for each in known if re.fullmatch(rf"{re.escape(each)}(?:[-_.].*)?", name.partition(".")[0]))
    if kind == PICTURE:
        return TableFile(path, kind, None, keys, "", tuple(plain))
    return TableFile(path, kind, next(begins, None), keys, "/".join(plain))


def _refuse_other_pictures(source: Store, paths: Sequence[str]) -> None:
    for path in paths:
        if path.lower().endswith(OTHER_PICTURES):
            raise DataError(
                f"expected pictures in PNG or JPEG in {source.describe()}, found {source.describe(path)} among them; "
                f"convert it, or take it away"
            )


def _require_one_table(source: Store, files: Sequence[TableFile]) -> None:
    folders, kinds = sorted({file.folder for file in files}), sorted({file.kind for file in files})
    if len(folders) > 1:
        found = ", ".join(folder or "." for folder in folders[:4])
        raise DataError(
            f"expected the files of one table in {source.describe()}, found some in {found}; name one of these "
            f"folders as data.source"
        )
    for part in sorted({file.part for file in files if file.part is not None}):
        own = [file.path for file in files if file.part == part]
        above = [path for path in own if part in [name.removeprefix(_PARTIAL) for name in path.split("/")[:-1]]]
        if above and len(above) < len(own):
            beside = next(path for path in own if path not in above)
            raise DataError(
                f"expected the files of part {part!r} in {source.describe(folders[0])} in one place, found {above[0]} "
                f"and {beside}; take one of them away, so that no row is there twice"
            )
    if len(kinds) > 1:
        raise DataError(
            f"expected files of one kind in {source.describe(folders[0])}, found {' and '.join(kinds)}; keep one kind"
        )

"""Names of Parquet shards as data set hubs and distributed writers give them: which files make up a split, in order."""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from relatif.schemas.errors import DataError

_OF_SPLIT = re.compile(r"(train|test)(?:-.+)?\.parquet")

# A number of how many, and often a fingerprint of the contents: train-00000-of-00005-1a2b3c4d5e6f7a8b.parquet
_NUMBERED = re.compile(r"-(\d+)-of-(\d+)(?:-[0-9A-Za-z]+)?\.(?:parquet|pq|csv|tsv|jsonl|ndjson|json)(?:\.gz)?$")


@dataclass(frozen=True)
class _Numbered:
    number: int
    total: int
    path: str


def split_of(path: str) -> str | None:
    """Return the split to which a file belongs by its name, or None."""
    match = _OF_SPLIT.fullmatch(posixpath.basename(path))
    return match[1] if match else None


def shards_in_order(paths: Iterable[str], split: str, where: str) -> list[str]:
    """Return the files of a split in the order of its rows; ``where`` is their folder, for messages.

    Raises DataError where there is none, where several sets of shards lie there, and where a shard that the others'
    names speak of is missing, is there twice or is beyond their number.
    """
    mine = sorted(path for path in paths if split_of(path) == split)
    names = [posixpath.basename(path) for path in mine]
    if not mine:
        raise DataError(
            f"expected {split}.parquet or {split}-*.parquet in {where}, found neither; "
            f"add the file or correct the address"
        )
    numbered = [_numbered(path) for path in mine]
    totals = {each and each.total for each in numbered}
    if len(mine) > 1 and (f"{split}.parquet" in names or len(totals) > 1):
        raise DataError(
            f"expected either {split}.parquet or one set of shards in {where}, found {', '.join(names)}; "
            f"leave one of them"
        )
    shards = sorted((each for each in numbered if each is not None), key=lambda each: each.number)
    if not shards:
        return mine
    _require_each_once(shards, split, where)
    return [each.path for each in shards]


def require_numbered(paths: Iterable[str], where: str) -> None:
    """Raise DataError where shards that say by their names how many there are are not each there once.

    Shards belong together by what their names say before the number.
    """
    together: dict[str, list[_Numbered]] = {}
    for path in paths:
        match, each = _NUMBERED.search(path), _numbered(path)
        if match is not None and each is not None:
            together.setdefault(path[: match.start()], []).append(each)
    for name, shards in together.items():
        _require_each_once(sorted(shards, key=lambda shard: shard.number), posixpath.basename(name), where)


def _numbered(path: str) -> _Numbered | None:
    match = _NUMBERED.search(posixpath.basename(path))
    return None if match is None else _Numbered(int(match[1]), int(match[2]), path)


def _require_each_once(shards: list[_Numbered], split: str, where: str) -> None:
    total = shards[0].total
    for one, other in pairwise(shards):
        if one.number == other.number:
            raise DataError(
                f"expected each shard of {split} once in {where}, found number {one.number:05d} twice: "
                f"{posixpath.basename(one.path)} and {posixpath.basename(other.path)}; remove the older one"
            )
    wrong = next((number for number, shard in enumerate(shards) if shard.number != number), len(shards))
    if wrong < total:
        raise DataError(
            f"expected {total} shards of {split} in {where}, as their names say, found none with number {wrong:05d}; "
            f"fetch it"
        )
    if len(shards) > total:
        raise DataError(
            f"expected {total} shards of {split} in {where}, as their names say, found number "
            f"{shards[-1].number:05d}; give the files of one set"
        )

"""Surnames of many languages: a folder with one text file a language, one name a line, or the tutorial's zip of it.

The data is published without a test set: a share of every language is held out as one.

Axes: N names, L characters of the longest name.
"""

import io
import posixpath
import re
import string
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Split, Subject
from relatif.pipeline.datasets.preparing import Published, bytes_receipt
from relatif.pipeline.datasets.provenance import HoldOut, Provenance
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt

NAME = "surnames"
FOLDERS = ("", "data/names", "names")
ARCHIVES = ("data.zip", "names.zip")

VOCABULARY = string.ascii_letters + " .,;'"
"""Characters that are kept; a name's codes count them from 1, and 0 fills up to the longest name."""

HELD_OUT = HoldOut(share=0.15, seed=0, names=("Vasyukov",))
"""The paper's share, and the name that its Table 3 explains."""

LONGEST_NAME = 1000

NAMES_BYTES = 64 * 2**20
"""What all files of names may hold together; a small archive can fill any memory."""

_ENDING = ".txt"
# A language's name, so that README.txt, requirements.txt or a folder of notes are not taken for surnames.
_LANGUAGE = re.compile(r"[A-Z][a-z]+(?:[ _-][A-Za-z]+)*")
_COMBINING_MARK = "Mn"


@dataclass(frozen=True)
class Surname:
    """A name as published and as kept, its language's number, and two independent random numbers."""

    text: str
    plain: str
    label: int
    draw: bytes
    place: bytes


def is_surnames(source: Store) -> bool:
    """Return whether a folder has text files that are all named like languages, or the tutorial's zip is there."""
    listed = (source.list(folder, _ENDING) for folder in FOLDERS)
    stems = next(([_stem(path) for path in paths] for paths in listed if paths), [])
    if len(stems) > 1 and all(_LANGUAGE.fullmatch(stem) for stem in stems):
        return True
    archive = _archive(source)
    return archive is not None and _may_hold_names(source, archive)


def read_surnames(source: Store, *, hold_out: HoldOut = HELD_OUT) -> Published:
    """Read surnames and hold a part of them out.

    The files lie in ``source``, in FOLDERS below it, or in an archive with ``names/*.txt``. Rows are in a random order,
    decided like the test set by ``hold_out`` alone. The names of HELD_OUT are held out where they occur; other data
    need not have them.

    Raises DataError for text that is not UTF-8 or has no letter to keep (naming file and line), for fewer than two
    files, for a file with fewer than two names or with none that is not held out by name, and for any other name to
    hold out that occurs nowhere.
    """
    files, receipts = _read(source)
    languages = sorted(files)
    if len(languages) < 2:
        raise DataError(
            f"expected text files of at least 2 languages in {source.describe()}, found {len(languages)}; "
            f"correct the address"
        )
    if not all(map(str.strip, languages)):
        raise DataError(
            f"expected text files that are named like languages in {source.describe()}, found one without a name, "
            f"{languages[0] + _ENDING!r}; rename it"
        )
    splits: dict[Split, list[Surname]] = {"train": [], "test": []}
    for label, language in enumerate(languages):
        origin, data = files[language]
        surnames = [
            Surname(text, plain, label, *_random(hold_out.seed, language, number))
            for number, (text, plain) in enumerate(parse_names(data, origin))
        ]
        held_out = set(choose_held_out(surnames, hold_out, origin))
        for surname in surnames:
            splits["test" if surname in held_out else "train"].append(surname)
    _require_held_out(splits["test"], hold_out, source)
    length = max(len(surname.plain) for surnames in splits.values() for surname in surnames)
    chunks = {split: [_chunk(surnames, length)] for split, surnames in splits.items()}
    rows = {split: len(surnames) for split, surnames in splits.items()}
    return Published(_subject(tuple(languages), length, hold_out, receipts), chunks, rows)


def parse_names(data: bytes, origin: str) -> list[tuple[str, str]]:
    """Return every line's name, as published and as kept; DataError naming ``origin`` and the line.

    Empty lines and spaces around a name are dropped.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"expected text in UTF-8 in line {line} of {origin}, found {error.reason}; save the file as UTF-8"
        ) from error
    names = [(line, name.strip()) for line, name in enumerate(text.split("\n"), start=1) if name.strip()]
    for line, name in names:
        if len(name) > LONGEST_NAME:
            raise DataError(
                f"expected a name of at most {LONGEST_NAME} characters in line {line} of {origin}, found {len(name)}; "
                f"give one name a line"
            )
        if not plain_letters(name):
            raise DataError(
                f"expected a name with at least one Latin letter in line {line} of {origin}, found {name!r}; "
                f"transliterate it or remove the line"
            )
    return [(name, plain_letters(name)) for _, name in names]


def plain_letters(name: str) -> str:
    """Return a name without accents (Unicode NFD less combining marks) and without characters outside VOCABULARY."""
    letters = unicodedata.normalize("NFD", name)
    return "".join(char for char in letters if unicodedata.category(char) != _COMBINING_MARK and char in VOCABULARY)


def choose_held_out(surnames: Sequence[Surname], hold_out: HoldOut, origin: str) -> list[Surname]:
    """Return the share of one language that is held out, at least one name and never all.

    This is the only place that decides it. Names of ``hold_out.names``, as often as they occur and however they are
    accented, come first; the others follow by lot. DataError where no other name is left.
    """
    if len(surnames) < 2:
        raise DataError(
            f"expected at least 2 names in {origin}, one of them to be held out, found {len(surnames)}; "
            f"add names or remove the file"
        )
    named = {plain_letters(name) for name in hold_out.names or ()}
    always = sum(surname.plain in named for surname in surnames)
    if always == len(surnames):
        raise DataError(
            f"expected a name in {origin} that may be learned from, found none but {', '.join(hold_out.names or ())}, "
            f"which are to be held out; add names or remove the file"
        )
    count = min(max(1, always, round(hold_out.share * len(surnames))), len(surnames) - 1)
    return sorted(surnames, key=lambda surname: (surname.plain not in named, surname.draw))[:count]


def encode(names: Sequence[str], length: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return uint8 [N, length]: codes from 1 in the order of VOCABULARY, then zeros."""
    codes = np.zeros((len(names), length), np.uint8)
    for row, name in enumerate(names):
        codes[row, : len(name)] = [VOCABULARY.index(char) + 1 for char in name]
    return codes


def _require_held_out(held_out: Sequence[Surname], hold_out: HoldOut, source: Store) -> None:
    there = {surname.plain for surname in held_out}
    asked = set(hold_out.names or ()) - set(HELD_OUT.names or ())
    missing = sorted(name for name in asked if plain_letters(name) not in there)
    if missing:
        raise DataError(
            f"expected {', '.join(missing)} in {source.describe()}, to be held out, found no such name; "
            f"correct the name's spelling or drop it"
        )


def _random(seed: int, language: str, number: int) -> tuple[bytes, bytes]:
    # A digest instead of a generator: the same with every version of every library.
    digest = sha256(f"{seed}\n{language}\n{number}".encode()).digest()
    return digest[:16], digest[16:]


def _chunk(surnames: Sequence[Surname], length: int) -> Chunk:
    ordered = sorted(surnames, key=lambda surname: surname.place)
    return Chunk(
        encode([surname.plain for surname in ordered], length),
        np.array([surname.label for surname in ordered], np.int64),
        tuple(surname.text for surname in ordered),
    )


def _stem(path: str) -> str:
    return posixpath.basename(path).removesuffix(_ENDING)


def _read(source: Store) -> tuple[Mapping[str, tuple[str, bytes]], tuple[FileReceipt, ...]]:
    """Return each language's file, as its address and its bytes, and the receipts of what was read."""
    for folder in FOLDERS:
        paths = [path for path in source.list(folder, _ENDING) if not _stem(path).startswith(".")]
        if paths:
            _require_size(sum(source.size(path) or 0 for path in paths), source.describe(folder))
            contents = {path: source.read_bytes(path) for path in paths}
            files = {_stem(path): (source.describe(path), data) for path, data in contents.items()}
            return files, tuple(bytes_receipt(path, data) for path, data in contents.items())
    archive = _archive(source)
    if archive is None:
        raise DataError(
            f"expected text files of names, one a language, or {' or '.join(ARCHIVES)} in {source.describe()}, "
            f"found neither; correct the address"
        )
    _require_size(source.size(archive) or 0, source.describe(archive))
    data = source.read_bytes(archive)
    return _unzipped(data, source.describe(archive)), (bytes_receipt(archive, data),)


def _archive(source: Store) -> str | None:
    there = source.list("")
    return next((name for name in ARCHIVES if name in there), None)


def _may_hold_names(source: Store, archive: str) -> bool:
    try:
        with source.open(archive) as file, zipfile.ZipFile(file) as opened:
            return any(map(_is_names_file, opened.namelist()))
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError):
        return True  # damaged: the reader then says which file


def _unzipped(data: bytes, origin: str) -> dict[str, tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            wanted = [info for info in archive.infolist() if _is_names_file(info.filename)]
            _require_size(sum(info.file_size for info in wanted), origin)
            _require_different([_stem(info.filename) for info in wanted], origin)
            # No more than was said of a file is read: zipfile checks its length and checksum.
            return {
                _stem(info.filename): (posixpath.join(origin, info.filename), archive.read(info)) for info in wanted
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            f"expected a whole zip file at {origin}, found a truncated or damaged one ({error}); fetch the file again"
        ) from error


def _require_size(found: int, origin: str) -> None:
    if found > NAMES_BYTES:
        raise DataError(
            f"expected at most {NAMES_BYTES} bytes of names in {origin}, found {found}; give lists of surnames"
        )


def _require_different(languages: list[str], origin: str) -> None:
    twice = sorted({language for language in languages if languages.count(language) > 1})
    if twice:
        raise DataError(f"expected one file for each language in {origin}, found two of {twice[0]}; remove one of them")


def _is_names_file(name: str) -> bool:
    folder, base = posixpath.split(name)
    # A Mac adds __MACOSX/data/names/._French.txt beside every file.
    return posixpath.basename(folder) == "names" and base.endswith(_ENDING) and not base.startswith(".")


def _subject(languages: tuple[str, ...], length: int, hold_out: HoldOut, sources: tuple[FileReceipt, ...]) -> Subject:
    return Subject(
        name=NAME,
        meaning="surnames by language, one row per name in a random order; accents dropped",
        input=InputDescription(
            column="name",
            dtype="uint8",
            shape=(length,),
            axes=("position",),
            vocabulary=VOCABULARY,
            text_column="text",
        ),
        class_names=languages,
        provenance=Provenance(
            origin="surnames in text files by language, as in PyTorch's tutorial on classifying names",
            licence="that of the source",
            licence_url="",
            sources=sources,
            hold_out=hold_out,
        ),
    )

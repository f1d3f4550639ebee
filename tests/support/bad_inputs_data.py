"""Data sets and addresses that have to be refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relatif.pipeline.datasets.description import DATASET_JSON
from tests.support.bad_inputs import PASSWORD, Case, command, images
from tests.support.bad_inputs_files import PUBLISHED, text
from tests.support.labelled import with_label, with_value, write_points

SOURCE = "source"
POINTS = "tests.support.points:points"


def prepared(name: str, change: Callable[[Path], object], expected: str, *settings: str) -> Case:
    """Return the case of a prepared data set that ``change`` spoils."""

    def arguments(folder: Path) -> list[str]:
        change(images(folder))
        return command(folder, f"data.source={folder / 'data'}", *settings)

    return Case("data", name, arguments, expected)


def points(name: str, value: float, split: str, expected: str, *, late: bool = True) -> Case:
    """Return the case of one value among points of the plane."""

    def arguments(folder: Path) -> list[str]:
        with_value(write_points(folder / SOURCE), split, 7, value)
        return command(folder, f"data.source={folder / SOURCE}", f"task={POINTS}")

    return Case("data", name, arguments, expected, late)


def address(source: str, expected: str) -> Case:
    """Return the case of a ``data.source``."""
    return Case(
        "data", source.replace(PASSWORD, "word"), lambda folder: command(folder, f"data.source={source}"), expected
    )


def described(**changes: Any) -> Callable[[Path], None]:
    """Return a change of fields of ``dataset.json``, by dotted names in which ``__`` stands for a dot."""

    def change(data: Path) -> None:
        content = json.loads((data / DATASET_JSON).read_text())
        for name, value in changes.items():
            *above, last = name.split("__")
            place = content
            for key in above:
                place = place[int(key) if key.isdigit() else key]
            place[int(last) if last.isdigit() else last] = value
        (data / DATASET_JSON).write_text(json.dumps(content))

    return change


def twice(data: Path) -> None:
    """Name the only training file twice, and count its rows so."""
    content = json.loads((data / DATASET_JSON).read_text())
    train = content["splits"]["train"]
    train |= {"rows": 2 * train["rows"], "files": train["files"] * 2}
    (data / DATASET_JSON).write_text(json.dumps(content))


def flipped(path: str, place: int) -> Callable[[Path], None]:
    """Return a change of one bit of a file."""

    def change(data: Path) -> None:
        content = bytearray((data / path).read_bytes())
        content[place] ^= 1
        (data / path).write_bytes(content)

    return change


PREPARED = [
    *(
        prepared(
            f"label {label} in {split}",
            lambda data, label=label, split=split: with_label(data, split, 4, label),  # type: ignore[misc]
            f"labels from 0 to 3 in .*{split}.*, found {'none' if label is None else label} in row 4",
        )
        for split in ("train", "test")
        for label in (4, -1, 2**31 - 1, None)
    ),
    prepared("byte flipped in the footer", flipped("train/part-00000.parquet", -30), "with SHA-256"),
    prepared("byte flipped in a page", flipped("test/part-00000.parquet", 40), "with SHA-256"),
    prepared("byte flipped at the end", flipped("test/part-00000.parquet", -1), "with SHA-256"),
    prepared("file cut", text("train/part-00000.parquet", b"PAR1"), "bytes, as dataset.json says, found 4 bytes"),
    prepared("file gone", lambda data: (data / "test/part-00000.parquet").unlink(), "found none"),
    prepared("shape negative", described(input__shape=[-6, 6]), "greater than or equal to 1"),
    prepared("shape zero", described(input__shape=[0, 6]), "greater than or equal to 1"),
    prepared("shape huge", described(input__shape=[2**40, 2**40]), "more than a row may have"),
    prepared("shape another", described(input__shape=[5, 6]), r"columns pixels \(fixed_size_binary\[30\]\)"),
    prepared("no shape", described(input__shape=[]), "at least 1 item"),
    prepared("type another", described(input__dtype="float64"), "'uint8', 'float32', 'int64' or 'bool'"),
    prepared("column another", described(input__column="none"), r"columns none \("),
    prepared("two classes of one name", described(class_names=["a", "b", "a", "c"]), "names of their own, found 'a'"),
    prepared("a class without a name", described(class_names=["a", "b", "", "c"]), "names of their own, found ''"),
    prepared("three classes for a task of four", described(class_names=["a", "b", "c"]), "of 4 classes|from 0 to 2"),
    prepared("rows that do not add up", described(splits__train__rows=61), "rows, not 61"),
    prepared("a file named twice", twice, "a file is named twice"),
    prepared("rows negative", described(splits__train__files__0__rows=-1), "greater than or equal to 0"),
    prepared("no test set", described(splits={}), "a part 'train' in data set"),
    prepared("format of the future", described(format=2), "format: Input should be 1"),
    prepared("description cut", text(DATASET_JSON, b'{"name": "a"'), "Invalid JSON"),
    prepared("description empty", text(DATASET_JSON, b""), "Invalid JSON"),
    prepared("description nested", text(DATASET_JSON, b"[" * 10**5), "Invalid JSON"),
    prepared("description no text", text(DATASET_JSON, b"\xff\xfe"), "Invalid JSON"),
    prepared("path outside", described(splits__train__files__0__path="../x.parquet"), "below"),
    prepared("column of labels", lambda _: None, "leave it out", "data.label_column=other"),
    points("a value not a number", float("nan"), "train", "finite values in .* found nan in row 7"),
    points("an infinite value", float("inf"), "test", "finite values in .* found inf in row 7"),
    points("a value whose square overflows", 3e38, "train", "finite squares in float32.*row 7 of points/train"),
    points("the same in the test set", -1e30, "test", "finite squares in float32.*row 7 of points/test"),
]

ADDRESSES = [
    address(f"ftp://user:{PASSWORD}@127.0.0.1:1/data", "to reach ftp://127.0.0.1:1/data"),
    address(f"sftp://user:{PASSWORD}@127.0.0.1:1/data", "127.0.0.1"),
    address(f"http://user:{PASSWORD}@127.0.0.1:1/data?token={PASSWORD}", "127.0.0.1"),
    address("s4://bucket/data", "Protocol not known"),
    address("s3:/bucket/data", "which is neither"),
    address("/no/such/folder", "found none of them"),
    address("/dev/null", "found none of them"),
]

CASES = [*PREPARED, *PUBLISHED, *ADDRESSES]

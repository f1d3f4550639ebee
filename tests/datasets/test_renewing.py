"""Data that results were made from: changed parts are prepared anew beside a training part that stays byte for byte."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image

from relatif.pipeline.datasets import renewing
from relatif.pipeline.datasets.description import DATASET_JSON, SplitDescription, Subject
from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset
from relatif.pipeline.datasets.tables.reading import Begun, Examples, OwnReader, Reading
from relatif.pipeline.datasets.writing import write_split
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import DataConfig
from relatif.schemas.errors import DataError
from tests.datasets.tables.test_published import WRITERS, people
from tests.support.runs import file_bytes

Write = Callable[[Path, list[dict[str, Any]]], None]


def pictures(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as pictures of one colour in folders by class."""
    shutil.rmtree(path, ignore_errors=True)
    for row in rows:
        (path / row["label"]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), row["age"]).save(path / row["label"] / f"{row['case']}.png")


def read(batch: pa.RecordBatch) -> Examples:
    columns = batch.to_pydict()
    label = torch.tensor([float(value == "yes") for value in columns["label"]])
    return Examples(torch.tensor(columns["age"]).float()[:, None], label[:, None])


OWN = OwnReader(read, "1")
KINDS: dict[str, tuple[Write, OwnReader | None, dict[str, Any]]] = {
    **{kind: (write, None, {"id_column": "case"}) for kind, write in WRITERS.items()},
    "pictures": (pictures, None, {}),
    "read of the task": (WRITERS["csv"], OWN, {"id_column": "case"}),
}


class Case:
    """A source and a folder for its prepared data."""

    def __init__(self, folder: Path, kind: str = "csv", **settings: Any) -> None:
        self.write, self.own, given = KINDS[kind]
        self.source, self.out, self.given = folder / "source", folder / "out", {**given, **settings}
        self.source.mkdir(parents=True)
        self.part("train", people(30))
        self.part("test", people(9, first=100))

    def part(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.write(self.source / name, rows)

    def prepare(self, begun: Begun | None = None, out: Path | None = None, **more: Any) -> PreparedDataset:
        config = DataConfig(source=str(self.source), **{**self.given, **more})
        reading = Reading(config, self.own, begun=begun)
        return open_source(open_store(self.source), open_store(out or self.out), reading)[1]

    def paths(self) -> set[str]:
        return {path.relative_to(self.out).as_posix() for path in self.out.rglob("*") if path.is_file()}


def made_of(dataset: PreparedDataset) -> Begun:
    return Begun(dataset.part_fingerprint("train"), dataset.fingerprint)


def require_only_named(case: Case, dataset: PreparedDataset) -> None:
    named = {part.path for split in dataset.description.splits.values() for part in split.files}
    assert case.paths() == {DATASET_JSON, *named}
    assert open_dataset(open_store(case.out)) == dataset


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_test_file_is_taken_in_beside_the_same_training_files(tmp_path: Path, kind: str, capsys) -> None:
    case = Case(tmp_path, kind)
    first = case.prepare()
    before = file_bytes(case.out, "train/*")
    for rows in (people(12, first=200), people(4, first=300), people(9, first=100)):
        case.part("test", rows)
        found = case.prepare(made_of(first))
        assert file_bytes(case.out, "train/*") == before
        assert found.part_fingerprint("train") == first.part_fingerprint("train")
        assert found.fingerprint == case.prepare(out=tmp_path / f"fresh {len(rows)}").fingerprint
        require_only_named(case, found)
        assert case.prepare(made_of(first)) == found
    assert found.fingerprint == first.fingerprint
    assert f"data: test taken from {case.source} anew, train stays as it is" in capsys.readouterr().err


def test_other_parts_are_taken_in_and_given_back(tmp_path: Path) -> None:
    case = Case(tmp_path)
    first = case.prepare()
    before = file_bytes(case.out, "train/*")
    for name, seed in (("ask", 200), ("pool", 300)):
        case.part(name, people(5, first=seed))
    for more in ({"test": "ask"}, {"scored": "pool"}, {"test": "ask", "scored": "pool"}, {}):
        found = case.prepare(made_of(first), **more)
        assert file_bytes(case.out, "train/*") == before
        assert set(found.description.splits) == {"train", *{"test": "test", **more}.values()}
        assert found.fingerprint == case.prepare(out=tmp_path / "-".join(["fresh", *more]), **more).fingerprint
        require_only_named(case, found)


@pytest.mark.parametrize("removed", [False, True])
def test_a_changed_training_file_is_refused_by_its_name_and_touches_nothing(tmp_path: Path, removed: bool) -> None:
    case = Case(tmp_path)
    first = case.prepare()
    if removed:
        shutil.rmtree(case.out)
        case.out.mkdir()
    before = file_bytes(case.out)
    kept = (case.source / "train.csv").read_bytes()
    case.part("train", [*people(29), *people(1, first=70)])
    case.part("test", people(3, first=500))
    with pytest.raises(DataError, match=rf"found {case.source}/train\.csv changed; set it back.* nothing was touched"):
        case.prepare(made_of(first))
    assert file_bytes(case.out) == before
    (case.source / "train.csv").write_bytes(kept)
    case.part("test", people(9, first=100))
    assert case.prepare(made_of(first)) == first


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"id_column": None, "input_columns": ("age",)},
            r"another input and id_column \(shape \[1\] in place of \[3\]\);",
        ),
        ({"class_names": ("yes", "no")}, "found another class_names;"),
        ({"train": "test", "test": "train"}, "found other rows in files that are as they were"),
    ],
)
def test_a_setting_that_changes_the_training_part_is_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    case = Case(tmp_path)
    first = case.prepare()
    before = file_bytes(case.out)
    with pytest.raises(DataError, match=message):
        case.prepare(made_of(first), **more)
    assert file_bytes(case.out) == before


def test_data_prepared_by_an_earlier_version_is_compared_by_its_rows(tmp_path: Path) -> None:
    case = Case(tmp_path)
    begun = made_of(case.prepare())
    description = json.loads((case.out / DATASET_JSON).read_text())
    description.pop("made_from")
    (case.out / DATASET_JSON).write_text(json.dumps(description))
    before = file_bytes(case.out)
    case.prepare(begun)
    assert file_bytes(case.out) == before

    case.part("test", people(4, first=300))
    with pytest.raises(DataError, match="found another provenance; choose another --out"):
        case.prepare(Begun(None, begun.whole))
    assert file_bytes(case.out) == before
    found = case.prepare(begun)
    assert file_bytes(case.out, "train/*") == {name: data for name, data in before.items() if "train" in name}
    assert found.fingerprint == case.prepare(out=tmp_path / "fresh").fingerprint
    require_only_named(case, found)


def test_a_damaged_or_lost_file_is_made_again(tmp_path: Path) -> None:
    case = Case(tmp_path)
    first = case.prepare()
    before = file_bytes(case.out)
    for damaged in ("train/part-00000.parquet", "test/part-00000.parquet", DATASET_JSON):
        (case.out / damaged).write_bytes(b"damaged")
        assert case.prepare(made_of(first)) == first
        assert file_bytes(case.out) == before
    shutil.rmtree(case.out)
    assert case.prepare(made_of(first)) == first
    assert file_bytes(case.out) == before


def test_data_of_which_nothing_was_made_gives_way(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.prepare()
    case.part("train", people(22))
    found = case.prepare()
    assert found.rows("train") == 22
    require_only_named(case, found)


class Killed(BaseException):
    """The process ended: nothing that would clean up runs either."""


def test_a_kill_at_any_moment_leaves_what_the_same_command_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path)
    first = case.prepare()
    case.part("test", people(5, first=400))
    fresh = case.prepare(out=tmp_path / "fresh")
    whole, moments = tmp_path / "whole", 0
    shutil.copytree(case.out, whole)
    for moment in range(100):
        shutil.rmtree(case.out)
        shutil.copytree(whole, case.out)
        left = iter(range(moment))

        def counted(change: Callable[..., Any], left: Any = left) -> Callable[..., Any]:
            def changed(*arguments: Any, **more: Any) -> Any:
                if next(left, None) is None:
                    raise Killed
                return change(*arguments, **more)

            return changed

        with monkeypatch.context() as patched:
            for name in ("publish", "delete", "delete_empty"):
                patched.setattr(Store, name, counted(getattr(Store, name)))
            try:
                case.prepare(made_of(first))
            except Killed:
                moments += 1
            else:
                break
        there = open_dataset(open_store(case.out))
        assert there.fingerprint in (first.fingerprint, fresh.fingerprint)
        found = case.prepare(made_of(first))
        assert found.fingerprint == fresh.fingerprint
        require_only_named(case, found)
    assert moments > 3


def test_a_training_part_is_read_again_only_where_it_can_not_be_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def counted(store: Store, subject: Subject, split: str, *rest: Any, **more: Any) -> SplitDescription:
        written.append(split)
        return write_split(store, subject, split, *rest, **more)

    monkeypatch.setattr(renewing, "write_split", counted)
    case = Case(tmp_path, "read of the task")
    first = case.prepare()
    case.part("test", people(4, first=300))
    case.prepare(made_of(first))
    assert written == ["test"]
    case.own = OwnReader(lambda batch: replace(read(batch), targets=-read(batch).targets), "2")
    with pytest.raises(DataError, match=r"found it read otherwise \(reader\)"):
        case.prepare(made_of(first))
    assert written == ["test", "train"]

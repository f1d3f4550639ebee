"""What rows of prepared data look like, against the arrays that were written."""

from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.datasets.tables.columns import number_columns
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.report.page.media import LONGEST_TEXT, MOST_COLUMNS, look_of, plain, read_media
from relatif.pipeline.report.page.sprites import reduced
from relatif.pipeline.storage.store import open_store
from relatif.schemas.config import DataConfig
from tests.support.page_inputs import HOSTILE, KINDS, ROWS, write_kind

WANTED = [41, 3, 59, 0, 20, 3]
LOOKS = {"grey": "image", "colour": "image", "large": "image", "text": "text", "letters": "text", "row": "row"}


def stored(store, dataset) -> np.ndarray:
    (shard,) = dataset.shards("train", rows=ROWS["train"])
    return read_shard(store, dataset, shard).inputs.numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_shown_in_the_order_in_which_they_are_asked_for(tmp_path: Path, kind: str) -> None:
    store = open_store(write_kind(tmp_path, kind))
    dataset = open_dataset(store)
    look = look_of(dataset.description)
    assert look.kind == {"wide": "row", "volume": "none"}.get(kind, LOOKS.get(kind))
    media, values = read_media(store, dataset, "train", WANTED, look), stored(store, dataset)
    if look.kind == "image":
        for tile, row in zip(media.tiles, WANTED, strict=True):
            picture = (
                values[row].transpose(1, 2, 0) if kind == "colour" else values[row].reshape(values[row].shape[-2:])
            )
            assert np.array_equal(tile, reduced(np.ascontiguousarray(picture), tile.shape[:2]))
            assert max(tile.shape) <= 64
    elif look.kind == "row":
        assert media.rows == [[plain(float(value)) for value in values[row]][:MOST_COLUMNS] for row in WANTED]
        assert look.columns is not None
        assert len(look.columns) == len(media.rows[0])
    elif kind == "letters":
        assert media.texts == ["".join("abcdefgh"[code - 1] for code in values[row] if code) for row in WANTED]
    elif kind == "text":
        expected = [HOSTILE[row % len(HOSTILE)] + (f" {row}" if row % 2 else "") for row in WANTED]
        assert media.texts == [text[:LONGEST_TEXT] for text in expected]
    else:
        assert (media.tiles, media.texts, media.rows) == ([], None, None)


def test_columns_have_the_user_s_names_where_these_are_told(tmp_path: Path) -> None:
    description = open_dataset(open_store(write_kind(tmp_path, "row"))).description
    assert look_of(description).columns == ("x1", "x2", "x3", "x4")
    assert look_of(description, ["age", "height", "</td>", "d"]).columns == ("age", "height", "</td>", "d")
    assert look_of(description, ["age"]).columns == ("x1", "x2", "x3", "x4")


def test_columns_of_a_table_have_the_names_that_they_were_read_by(tmp_path: Path) -> None:
    rows = ["alcohol,ph,sugar,sulphates,kind", "12.5,3.2,1.75,0.5,red", "13,3,2.25,0.25,white"]
    for part in ("train", "test"):
        (tmp_path / "wines").mkdir(exist_ok=True)
        (tmp_path / "wines" / f"{part}.csv").write_text("\n".join(rows))
    reading = Reading(DataConfig(source=str(tmp_path / "wines"), label_column="kind"), None, begun=None)
    store, dataset = open_source(open_store(tmp_path / "wines"), open_store(tmp_path / "prepared"), reading)
    look = look_of(dataset.description)
    assert look.columns == ("alcohol", "ph", "sugar", "sulphates")
    assert read_media(store, dataset, "train", [1, 0], look).rows == [[13, 3, 2.25, 0.25], [12.5, 3.2, 1.75, 0.5]]
    joined = {"reader": "numbers", "columns": "a, b, c"}
    assert number_columns(joined, 2) is None, "a name with a comma"
    assert number_columns(joined, 2, ("a, b", "c")) == ("a, b", "c")
    assert number_columns({"reader": "own", "columns": "a, b"}, 2) is None


def test_numbers_are_written_with_the_digits_that_they_have() -> None:
    assert plain(float(np.float32(0.1))) == 0.1
    assert plain(3.0) == 3
    assert isinstance(plain(3.0), int)
    assert plain(True) is True
    assert plain(1e30) == pytest.approx(1e30)

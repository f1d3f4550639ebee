"""What examples look like is what was written: pixels, texts, rows by the names of their columns."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from relatif.pipeline.datasets.shards import read_shard_texts
from relatif.pipeline.explaining.given import given_text
from relatif.pipeline.explaining.media import media_of, media_of_rows, token_texts
from relatif.pipeline.showing.shown import Media
from tests.datasets.tables.test_published import FEATURES, ROWS
from tests.datasets.tables.test_readers import folder_of, words
from tests.explaining.test_given import digits, run_of
from tests.support.own_tasks import write_image_parquet, write_names


def test_grey_pictures_are_the_datas_pixels(tmp_path: Path) -> None:
    for name, write in (("digits", digits), ("images", lambda folder: write_image_parquet(folder) or folder)):
        run, stored = run_of(write(tmp_path / name), tmp_path / f"{name}_run")
        assert isinstance(stored.inputs, torch.Tensor)
        found = media_of_rows(run, "test", [7, 2, 7])
        assert list(found) == [2, 7]
        for row, media in found.items():
            assert media.picture is not None
            assert np.array_equal(media.picture, stored.inputs[row].reshape(media.picture.shape).numpy())
            assert (media.text, media.row) == (None, None)


def test_normalized_pictures_are_shown_as_they_were(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    for part in ("train", "test"):
        for kind in ("cat", "lynx"):
            (tmp_path / "album" / part / kind).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / "album" / part / kind / "1.png")
    settings = ("data.mean=[0.4, 0.5, 0.6]", "data.std=[0.2, 0.3, 0.25]")
    run, _ = run_of(tmp_path / "album", tmp_path, *settings)
    assert np.array_equal(media_of_rows(run, "test", [1])[1].picture, pixels)  # type: ignore[arg-type]


def test_names_are_shown_as_they_were_published(tmp_path: Path) -> None:
    write_names(tmp_path / "names")
    (tmp_path / "names/Polish.txt").write_text("Ślusàrski\nWójcik\nŻak\n")
    run, stored = run_of(tmp_path / "names", tmp_path, "data.shard_rows=1000")
    texts = read_shard_texts(run.data, run.dataset, run.dataset.shards("test", rows=1000)[0])
    found = media_of_rows(run, "test", range(len(texts)))
    assert [media.text for media in found.values()] == texts
    letters = token_texts(run, stored.inputs)
    assert {len(row) for row in letters} == {run.dataset.input_shape[0]}
    own = given_text(run, "Nowak")
    assert media_of(run, own.stored, [None])[0].text == "Nowak"
    assert media_of(run, own.stored, ["Nówak"])[0].text == "Nówak"


def test_tokens_have_their_texts_and_padding_none(tmp_path: Path) -> None:
    rows = {"train": [{"text": "good film", "label": "a"}, {"text": "bad", "label": "b"}]}
    rows["test"] = [{"text": "bad good film odd", "label": "a"}]
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows[part])) for part in rows})
    run, stored = run_of(source, tmp_path, f"data.tokenizer={words(tmp_path)}", "data.max_length=5")
    assert token_texts(run, stored.inputs) == [[" bad", " good", " film", " [UNK]", ""]]
    assert media_of_rows(run, "test", [0])[0].text == "bad good film odd"


def test_lists_of_tokens_are_their_numbers(tmp_path: Path) -> None:
    rows = [{"input_ids": [3, 5, 2], "label": 0}, {"input_ids": [4], "label": 1}]
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows)) for part in ("train", "test")})
    run, stored = run_of(source, tmp_path)
    assert token_texts(run, stored.inputs) == [["3 ", "5 ", "2 "], ["4 ", "", ""]]
    assert [media.text for media in media_of(run, stored.inputs, [None, None])] == ["3 5 2", "4"]


def test_a_row_has_the_names_of_its_columns(tmp_path: Path) -> None:
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows)) for part, rows in ROWS.items()})
    run, _ = run_of(source, tmp_path, f"data.input_columns={json.dumps(FEATURES)}", "data.id_column=case")
    found = media_of_rows(run, "train", [3])[3]
    row = ROWS["train"][3]
    assert found.row == (("age", str(row["age"])), ("height", f"{row['height']:.5g}"), ("member", "1"))
    assert media_of_rows(run, "train", []) == {}


def test_inputs_of_many_numbers_show_nothing(tmp_path: Path) -> None:
    names = [f"x{place}" for place in range(3)]
    rows = [dict.fromkeys(names, row / 3) | {"label": row % 2} for row in range(4)]
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows)) for part in ("train", "test")})
    run, stored = run_of(source, tmp_path)
    assert media_of(run, stored.inputs, [None] * 4)[1].row == (("x0", "0.33333"), ("x1", "0.33333"), ("x2", "0.33333"))
    assert Media().picture is None

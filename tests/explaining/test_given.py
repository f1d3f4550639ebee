"""What a user gives becomes the very row that the data hold; all else is told in a note or refused in one line."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from relatif.pipeline.datasets.shards import StoredExamples, read_shard, read_shard_texts
from relatif.pipeline.explaining.given import (
    Given,
    given,
    given_file,
    given_picture,
    given_row,
    given_text,
    label_of,
    parsed_row,
)
from relatif.pipeline.inputs import named
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.schemas.errors import ConfigurationError, DataError
from tests.datasets.given.test_rows import texts
from tests.datasets.tables.test_published import FEATURES, ROWS
from tests.datasets.tables.test_readers import folder_of, words
from tests.support.own_tasks import write_image_parquet, write_names
from tests.support.runs import config

DIGITS = 40


def digits(folder: Path) -> Path:
    """Write MNIST's four files, of light strokes on black."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        images = np.zeros((DIGITS, 28, 28), np.uint8)
        images[:, 4:24, 4:24] = generator.integers(0, 256, (DIGITS, 20, 20))
        labels = (np.arange(DIGITS) % 10).astype(np.uint8)
        header = struct.pack(">IIII", 0x803, DIGITS, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, DIGITS) + labels.tobytes())
    return folder


def run_of(source: Path, tmp_path: Path, *settings: str) -> tuple[Run, StoredExamples]:
    run = open_run(config(source, *settings), str(tmp_path / "out"))
    return run, read_shard(run.data, run.dataset, run.dataset.shards("test", rows=1000)[0])


def is_row(found: Given, stored: StoredExamples, row: int) -> bool:
    """Whether an input is a row of the data, to the bit and of the same types."""
    mine, theirs = named(found.stored), named(stored.inputs)
    return mine.keys() == theirs.keys() and all(
        torch.equal(each, theirs[name][row : row + 1]) and each.dtype == theirs[name].dtype
        for name, each in mine.items()
    )


@pytest.fixture
def mnist(tmp_path: Path) -> tuple[Run, StoredExamples]:
    return run_of(digits(tmp_path / "digits"), tmp_path)


def test_a_digit_given_as_file_picture_tensor_and_row_is_the_datas(
    mnist: tuple[Run, StoredExamples], tmp_path: Path
) -> None:
    run, stored = mnist
    assert isinstance(stored.inputs, torch.Tensor)
    pixels = stored.inputs[7].numpy()
    Image.fromarray(pixels).save(tmp_path / "seven.PNG")
    ways = {
        "the file seven.PNG": given_file(run, str(tmp_path / "seven.PNG")),
        "the picture": given(Image.fromarray(pixels), run),
        "the tensor [28, 28]": given(stored.inputs[7], run),
        "the given row": given({"image": pixels.tolist()}, run),
    }
    for told, found in ways.items():
        assert is_row(found, stored, 7), told
        assert (found.told, found.notes, found.target.tolist()) == (told, (), [-1])


def test_dark_ink_on_white_is_exchanged_and_never_silently(mnist: tuple[Run, StoredExamples]) -> None:
    run, stored = mnist
    assert isinstance(stored.inputs, torch.Tensor)
    drawn = Image.fromarray(255 - stored.inputs[3].numpy())
    told = "light and dark were exchanged: its ground is light, that of the data's pictures dark"
    found = given_picture(run, drawn)
    assert is_row(found, stored, 3)
    assert found.notes == (told,)
    kept = given_picture(run, drawn, invert=False)
    assert torch.equal(255 - kept.stored, found.stored)  # type: ignore[operator, arg-type]
    assert kept.notes == ()
    asked = given_picture(run, Image.fromarray(stored.inputs[3].numpy()), invert=True)
    assert torch.equal(asked.stored, kept.stored)  # type: ignore[arg-type]
    assert asked.notes == ("light and dark were exchanged, as asked",)


def test_an_image_of_any_size_becomes_one_of_the_datas(tmp_path: Path) -> None:
    write_image_parquet(tmp_path / "images")
    run, stored = run_of(tmp_path / "images", tmp_path)
    assert isinstance(stored.inputs, torch.Tensor)
    Image.fromarray(stored.inputs[2, 0].numpy()).save(tmp_path / "2.png")
    assert is_row(given_file(run, str(tmp_path / "2.png")), stored, 2)
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 50, 3), dtype=np.uint8))
    large.save(tmp_path / "large.jpg")
    with Image.open(tmp_path / "large.jpg") as image:
        expected = np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BILINEAR))
    found = given_file(run, str(tmp_path / "large.jpg"))
    assert np.array_equal(found.stored[0, 0], expected)  # type: ignore[index]
    assert found.notes == ("it was converted from RGB to grey", "it was resized from 50 x 31 to 8 x 8, stretched")


def test_a_picture_of_a_table_is_normalized_as_the_datas(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for kind in ("cat", "lynx"):
            folder = tmp_path / "album" / part / kind
            folder.mkdir(parents=True)
            Image.fromarray(generator.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA").save(folder / "1.png")
    settings = ("data.image_size=[4, 5]", "data.image_mode=RGB", "data.mean=[0.5]", "data.std=[0.25]")
    run, stored = run_of(tmp_path / "album", tmp_path, *settings)
    for row, kind in enumerate(("cat", "lynx")):
        found = given_file(run, str(tmp_path / f"album/test/{kind}/1.png"))
        assert is_row(found, stored, row)
        assert "it was resized from 7 x 9 to 5 x 4, stretched" in found.notes


def test_every_surname_typed_is_the_datas(tmp_path: Path) -> None:
    write_names(tmp_path / "names")
    (tmp_path / "names/Polish.txt").write_text("Ślusàrski\nAbreu-x\nKowalski\nNowak\nWójcik\n")
    run, stored = run_of(tmp_path / "names", tmp_path, "data.shard_rows=1000")
    published = read_shard_texts(run.data, run.dataset, run.dataset.shards("test", rows=1000)[0])
    for row, text in enumerate(published):
        for found in (given_text(run, text), given(text, run), given({"text": text}, run)):
            assert is_row(found, stored, row), text
            assert found.text == text
    assert label_of(run, "Polish") == run.dataset.class_names.index("Polish")


def test_a_text_goes_through_the_datas_tokenizer(tmp_path: Path) -> None:
    rows = {part: texts(part) for part in ("train", "test")}
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows[part])) for part in rows})
    run, stored = run_of(source, tmp_path, f"data.tokenizer={words(tmp_path)}", "data.max_length=3")
    for row, each in enumerate(rows["test"]):
        found = given_text(run, each["text"])
        assert is_row(found, stored, row)
        assert found.text == each["text"]
        assert is_row(given(each, run), stored, row)
    ids, mask = (named(stored.inputs)[f".{name}"][0] for name in ("input_ids", "attention_mask"))
    assert is_row(given({"attention_mask": mask, "input_ids": ids}, run), stored, 0)


def test_an_empty_text_is_refused_unless_the_data_have_some(tmp_path: Path) -> None:
    settings = (f"data.tokenizer={words(tmp_path)}", "data.max_length=3")
    rows = {part: texts(part) for part in ("train", "test")}
    for name, some in (("full", rows), ("gaps", {**rows, "train": [*rows["train"], {**rows["train"][0], "text": ""}]})):
        source = folder_of(tmp_path / name, {f"{part}.jsonl": "\n".join(map(json.dumps, some[part])) for part in some})
        run, _ = run_of(source, tmp_path / name, *settings)
        for text in ("", " \n"):
            if name == "gaps":
                assert "the text is empty, as some of the data's are" in given_text(run, text).notes
                continue
            with pytest.raises(DataError, match="expected a text with characters, as all of the data's have, found"):
                given_text(run, text)


@pytest.fixture
def people(tmp_path: Path) -> tuple[Run, StoredExamples]:
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows)) for part, rows in ROWS.items()})
    return run_of(source, tmp_path, f"data.input_columns={json.dumps(FEATURES)}", "data.id_column=case")


def test_a_row_of_a_file_is_the_datas_and_knows_its_label(people: tuple[Run, StoredExamples], tmp_path: Path) -> None:
    run, stored = people
    for row, each in enumerate(ROWS["test"]):
        (tmp_path / "row.json").write_text(json.dumps([each]))
        (tmp_path / "row.jsonl").write_text(json.dumps(each) + "\n")
        for name in ("row.json", "row.jsonl"):
            found = given_file(run, str(tmp_path / name))
            assert is_row(found, stored, row)
            assert found.target.tolist() == [int(stored.labels[row])]
            assert found.told == f"the row in {name}"
            assert found.notes == ("the model does not read case",)


def test_merged_classes_are_those_of_the_run(tmp_path: Path) -> None:
    rows = [{"x": row / 3, "label": "abcd"[row % 4]} for row in range(8)]
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows)) for part in ("train", "test")})
    run, stored = run_of(source, tmp_path, "data.merge_classes=2")
    assert [given_row(run, row).target.item() for row in rows] == stored.labels.tolist()
    assert given_row(run, {"x": 1}).target.tolist() == [-1]
    assert (label_of(run, "c+d"), label_of(run, "1")) == (1, 1)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("text", "expected a row of the columns age, height, member, found a text; give that"),
        (Image.new("L", (3, 3)), "expected a row of the columns age, height, member, found a picture"),
        ({"age": 3}, "found no 'height', 'member' among age; add it"),
        (torch.zeros(2), r"'features' of shape \[3\], found \[2\]"),
        (3.5, "expected a tensor, a picture of pillow, a str, a dict or the number of a test row .* found float"),
    ],
)
def test_what_a_run_could_not_read_is_refused(people: tuple[Run, StoredExamples], value: Any, told: str) -> None:
    with pytest.raises((DataError, ConfigurationError), match=told):
        given(value, people[0])


def test_light_and_dark_are_exchanged_of_grey_pictures_alone(people: tuple[Run, StoredExamples]) -> None:
    for value in ("text", {"age": 3}, torch.zeros(3)):
        with pytest.raises(ConfigurationError, match="expected a picture to exchange light and dark of, found none"):
            given(value, people[0], invert=True)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("picture.gif", b"", r"a picture \(.png, .jpg, .jpeg\) or a row \(.json, .jsonl\) as --input, found 'pict"),
        ("row.json", b"{", "expected one row as a JSON object"),
        ("row.json", b"[1]", "found int; give one row with its columns"),
        ("row.json", b'[{"a": 1}, {"a": 2}]', "found 2 of them; give one row"),
        ("row.jsonl", b'{"a": 1}\n{"a": 2}', "found Extra data.* give one row"),
        ("row.json", b"\xff\xfe{", "expected one row as a JSON object"),
        ("picture.png", b"no picture", "expected a whole PNG or JPEG picture"),
    ],
)
def test_files_that_hold_nothing_to_explain_are_refused(
    people: tuple[Run, StoredExamples], tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ConfigurationError), match=told):
        given_file(people[0], str(tmp_path / name))
    with pytest.raises((DataError, ConfigurationError), match="expected a"):
        given_file(people[0], str(tmp_path / f"missing-{name}"))


def test_a_row_is_one_object() -> None:
    assert parsed_row('{"a": 1}', "here") == {"a": 1}


def test_a_label_is_a_word_a_classs_name_or_its_number(people: tuple[Run, StoredExamples]) -> None:
    run, _ = people
    assert [label_of(run, text) for text in ("predicted", "true", "yes", "0")] == ["predicted", "true", 1, 0]
    for wrong in ("perhaps", "2", "-1", ""):
        with pytest.raises(
            ConfigurationError, match=f"predicted, true, no, yes or a number from 0 to 1, found '{wrong}'"
        ):
            label_of(run, wrong)


def test_names_of_classes_that_are_numbers_come_before_their_places(tmp_path: Path) -> None:
    rows = [{"x": row / 3, "label": 1 + row % 2} for row in range(8)]
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows)) for part in ("train", "test")})
    run, stored = run_of(source, tmp_path, 'data.class_names=["1", "2"]')
    assert (label_of(run, "1"), label_of(run, "2"), label_of(run, "0")) == (0, 1, 0)
    assert [given_row(run, row).target.item() for row in rows] == stored.labels.tolist()

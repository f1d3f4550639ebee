"""The page of one input says what its explanation says, and the report's own document draws it."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from relatif.pipeline.explaining.explanation import Explanation
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.report.page.document import document
from relatif.pipeline.report.page.one_input import page_of_input
from tests.support.letters import letters_run, pictures_run

torch.set_num_threads(1)

DIGITS = 1e-5
"""Relative: the page has six digits."""


@pytest.fixture(scope="module")
def letters() -> FinishedRun:
    """A run on names."""
    return open_finished_run(letters_run())


@pytest.fixture(scope="module")
def pictures() -> FinishedRun:
    """A run on pictures."""
    return open_finished_run(pictures_run())


def page(found: Explanation, by: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(page_of_input(found, by), allow_nan=False))
    document(made, title="one input")
    return made


def check_lists(made: dict[str, Any], found: Explanation) -> None:
    """The page's lists are those of the explanation, method by method."""
    (explained,) = made["explanations"]
    assert list(explained["methods"]) == [name for name in found.methods if name != "negative_influence"]
    assert [each["name"] for each in made["run"]["methods"]] == list(explained["methods"])
    for name, sides in explained["methods"].items():
        for side, helpers in (("helps", found.methods[name]), ("harms", found.harms.get(name, ()))):
            listed = sides[side] or {"train": [], "score": []}
            assert [made["train"]["index"][place] for place in listed["train"]] == [
                each.train_index for each in helpers
            ]
            sign = -1 if name == "nearest_neighbour" else 1
            assert listed["score"] == pytest.approx([sign * each.score for each in helpers], rel=DIGITS)
            if helpers and helpers[0].effect is not None:
                assert listed["effect"] == pytest.approx([each.effect for each in helpers], rel=DIGITS)
                corrected = [found.corrected[each.train_index] for each in helpers]
                assert listed["corrected"] == pytest.approx(corrected, rel=DIGITS)


def test_a_typed_name_has_a_page_of_its_own(letters: FinishedRun) -> None:
    found = letters.explain("Bákov", "Polish", top=4, harms=2)
    made = page(found, "token")
    check_lists(made, found)
    test = made["test"]
    assert (test["index"][0], test["id"][0], test["text"][0]) == (None, "'Bákov'", "Bákov")
    told = {fact["title"]: fact["text"] for fact in made["run"]["facts"]}
    assert told["What was explained"].startswith("The loss of 'Polish', of the text 'Bákov', by ")
    assert told["What was done to it"] == "Its accents were dropped, as of all surnames; it was read as 'Bakov'."
    assert test["label"][0] is None
    assert made["run"]["classes"][test["explained"][0]] == "Polish"
    assert made["run"]["noun"]["test"][0] == "the text"
    assert test["probability"][0] == pytest.approx(found.probability, rel=DIGITS)
    columns = [values for values in test.values() if values is not None]
    assert {len(values) for values in columns} == {len(test["index"])}
    listed = made["explanations"][0]["methods"]["l_relatif"]["helps"]
    for place, tokens in zip(listed["train"], listed["tokens"], strict=True):
        assert "".join(text for text, _ in tokens) == made["train"]["text"][place]
    wholes = [
        sum(part for _, part in tokens) + rest for tokens, rest in zip(listed["tokens"], listed["rest"], strict=True)
    ]
    assert wholes == pytest.approx([each.score for each in found.methods["l_relatif"]], rel=1e-2, abs=1e-4)
    for places in made["reverse"]["influence"].values():
        # What a training example explains are test inputs, and not the one that was typed.
        assert 0 not in places
    assert (made["story"], made["labels"], made["whole"]) == (None, None, {})


def test_a_test_input_of_pictures_is_the_first_of_its_page(pictures: FinishedRun) -> None:
    found = pictures.explain(6, top=3, harms=1)
    made = page(found, "layer")
    check_lists(made, found)
    assert made["test"]["index"][0] == 6
    assert made["test"]["label"][0] == found.label
    assert made["sheets"]["tile"] == [6, 6]
    listed = made["explanations"][0]["methods"]["influence"]["helps"]["by_layer"]
    assert listed["names"] == ["rows", "head"]
    assert np.sum(listed["shares"], axis=1) == pytest.approx(
        [each.score for each in found.methods["influence"]], rel=10 * DIGITS
    )


def test_a_picture_of_the_users_is_a_tile_behind_the_training_examples(pictures: FinishedRun, tmp_path: Path) -> None:
    given = torch.full((6, 6), 240, dtype=torch.uint8)
    found = pictures.explain(given, top=2)
    made = page(found)
    assert made["test"]["index"][0] is None
    assert made["test"]["id"][0] == "[6, 6]"
    assert made["run"]["sample"] == "This page explains the tensor [6, 6]"
    tile = len(made["train"]["index"])
    assert bytes_of_tile(made, tile, tmp_path) == {255 * (240 // 16) // 15}


def bytes_of_tile(made: dict[str, Any], tile: int, tmp_path: Path) -> set[int]:
    """Values of a tile's pixels on the page's first sheet."""
    (tmp_path / "sheet.png").write_bytes(base64.b64decode(made["sheets"]["images"][0]))
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image.convert("L"))
    rows, columns = made["sheets"]["tile"]
    line, column = divmod(tile, made["sheets"]["columns"])
    return set(pixels[line * rows : (line + 1) * rows, column * columns : (column + 1) * columns].ravel().tolist())

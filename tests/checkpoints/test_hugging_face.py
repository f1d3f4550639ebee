"""What config.json says of classes."""

import json
from pathlib import Path

import pytest

from relatif.pipeline.checkpoints.hugging_face import label_names, model_config
from relatif.schemas.errors import DataError


def folder(tmp_path: Path, content: object) -> str:
    (tmp_path / "config.json").write_text(json.dumps(content))
    return str(tmp_path)


def test_names_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {str(number): f"class {number}" for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    assert label_names(folder(tmp_path, {"id2label": names})) == tuple(f"class {number}" for number in range(11))


@pytest.mark.parametrize("content", [{}, {"id2label": {}}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}])
def test_names_that_nobody_gave_are_none(tmp_path: Path, content: object) -> None:
    assert label_names(folder(tmp_path, content)) is None


def test_a_file_and_a_folder_without_config_have_none(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("x")
    assert model_config(str(tmp_path / "model.pt")) is None
    assert label_names(str(tmp_path)) is None


@pytest.mark.parametrize("names", [{"0": "a", "2": "b"}, {"0": "a", "1": "a"}])
def test_numbers_left_out_and_names_twice_are_refused(tmp_path: Path, names: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"expected id2label .* to give each number from 0 a name of its own"):
        label_names(folder(tmp_path, {"id2label": names}))


def test_damage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="found no JSON"):
        model_config(str(tmp_path))

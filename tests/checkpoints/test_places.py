"""Where the files of a checkpoint lie, and what they are hashed for."""

import hashlib
import json
from pathlib import Path

import pytest

from relatif.pipeline.checkpoints.places import fingerprints, locate
from relatif.schemas.errors import DataError


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name.replace("__", ".")).write_text(text)
    return tmp_path


def test_a_file_is_its_own_place(tmp_path: Path) -> None:
    made = folder(tmp_path, model__pt="x")
    place = locate(str(made / "model.pt"))
    assert (place.folder.url, place.files) == (str(tmp_path), ("model.pt",))
    assert locate(f"file://{made}/model.pt").files == ("model.pt",)


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (("model.safetensors", "pytorch_model.bin", "config.json"), ("model.safetensors",)),
        (("pytorch_model.bin", "training_args.bin", "config.json"), ("pytorch_model.bin",)),
        (("epoch3.pth", "README.md"), ("epoch3.pth",)),
    ],
)
def test_a_folder_names_its_weights(tmp_path: Path, names: tuple[str, ...], weights: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("x")
    place = locate(str(tmp_path))
    assert place.weights == weights
    assert place.config == ("config.json" if "config.json" in names else None)


def test_an_index_names_shards_and_all_files_are_hashed(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}}
    made = folder(tmp_path, one__safetensors="1", two__safetensors="2", config__json="{}")
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    for address in (made, made / "model.safetensors.index.json"):
        assert locate(str(address)).weights == ("one.safetensors", "two.safetensors")
    found = fingerprints(str(made))
    assert list(found) == [
        str(made / name)
        for name in ("one.safetensors", "two.safetensors", "model.safetensors.index.json", "config.json")
    ]
    assert found[str(made / "one.safetensors")] == hashlib.sha256(b"1").hexdigest()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tf_model__h5": "x"}, r"found only tf_model\.h5; name the file itself"),
        ({"a__pt": "x", "b__pt": "x"}, r"found several, a\.pt, b\.pt; name the file itself"),
        ({"adapter_model__safetensors": "x", "adapter_config__json": "{}"}, "found the adapter .* alone; load it onto"),
        ({"model__safetensors__index__json": "{}"}, "an index of shards with a weight_map"),
        ({"model__safetensors__index__json": '{"weight_map": {"a": "gone"}}'}, "names, found none; fetch all"),
    ],
)
def test_other_folders_are_refused_with_what_to_do(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        locate(str(folder(tmp_path, **files)))


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a checkpoint at model.checkpoint = .*none.pt, found nothing there"):
        locate(str(tmp_path / "none.pt"))

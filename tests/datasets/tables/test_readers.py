"""Pictures and texts are read as their own libraries read them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.storage.store import Store
from tests.datasets.tables.test_published import examples, ids, opened


def folder_of(tmp_path: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / "source"


def picture(seed: int, size: tuple[int, int] = (6, 5), mode: str = "RGB", orientation: int = 1) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
    (image.convert("I").convert("I;16") if mode == "I;16" else image).save(data, "PNG", exif=exif)
    return data.getvalue()


def animation() -> bytes:
    first, second = (Image.open(io.BytesIO(picture(seed))) for seed in (1, 2))
    data = io.BytesIO()
    first.save(data, "PNG", save_all=True, append_images=[second])
    return data.getvalue()


def pictures(tmp_path: Path, **settings: Any) -> tuple[Store, PreparedDataset]:
    files: dict[str, str | bytes] = {
        f"{part}/{kind}/{number}.png": picture(10 * number + len(part + kind), (6 + number, 5), "RGB", 1 + 5 * number)
        for part in ("train", "test")
        for kind in ("cat", "lynx")
        for number in range(2)
    }
    return opened(folder_of(tmp_path, files), tmp_path, **settings)


def test_a_folder_of_pictures_is_turned_upright_converted_and_resized(tmp_path: Path) -> None:
    mean, std = (0.4,), (0.2,)
    given = {"image_size": (4, 3), "image_mode": "L", "mean": mean, "std": std, "id_column": "path"}
    store, dataset = pictures(tmp_path, **given)
    assert dataset.class_names == ("cat", "lynx")
    paths = ids(store, dataset, "train") or []
    assert paths == ["train/cat/0.png", "train/cat/1.png", "train/lynx/0.png", "train/lynx/1.png"]
    found = examples(store, dataset, "train")
    assert found.labels.tolist() == [0, 0, 1, 1]
    for path, inputs in zip(paths, found.inputs, strict=True):
        with Image.open(tmp_path / "source" / path) as image:
            turned = image.transpose(Image.Transpose.ROTATE_270) if path.endswith("1.png") else image
            pixels = np.asarray(turned.convert("L").resize((3, 4), Image.Resampling.BILINEAR))
        assert isinstance(inputs, torch.Tensor)
        expected = (torch.from_numpy(pixels.copy())[None].double() / 255 - mean[0]) / std[0]
        torch.testing.assert_close(inputs.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_column_of_encoded_pictures_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for part in ("train", "test"):
        rows = [{"photo": picture(number), "kind": number % 2} for number in range(4)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"source/{part}.parquet")
    store, dataset = opened(tmp_path / "source", tmp_path, label_column="kind", input_columns=("photo",))
    found = examples(store, dataset, "test").inputs
    assert isinstance(found, torch.Tensor)
    for number in range(4):
        pixels = np.asarray(Image.open(io.BytesIO(picture(number))))
        assert np.array_equal(found[number].permute(1, 2, 0).numpy(), pixels)


def words(tmp_path: Path, *, padding: bool = True) -> str:
    vocabulary = {
        word: place for place, word in enumerate(["[UNK]", *(["[PAD]"] * padding), "a", "good", "bad", "film"])
    }
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


def test_texts_become_padded_and_cut_tokens(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "train.csv": 'text,label\n"a good\nfilm",pos\na bad bad film,neg\n',
        "test.csv": "text,label\nfilm,pos\n",
    }
    given = {"tokenizer": words(tmp_path), "max_length": 3}
    store, dataset = opened(folder_of(tmp_path, files), tmp_path, **given)
    assert dataset.class_names == ("neg", "pos")
    found = examples(store, dataset, "train").inputs
    assert isinstance(found, dict)
    assert found["input_ids"].tolist() == [[2, 3, 5], [2, 4, 4]]
    test = examples(store, dataset, "test").inputs
    assert isinstance(test, dict)
    assert test["input_ids"].tolist() == [[5, 1, 1]]
    assert test["attention_mask"].tolist() == [[1, 0, 0]]

"""Readers meet anything: settings, files of data and records, made up or damaged, end in the project's own errors.

``make test`` tries some of each; ``make fuzz`` goes on for ten minutes, or as long as it is told, with other ones.
"""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from relatif.pipeline.datasets.cifar10 import is_cifar10, read_cifar10
from relatif.pipeline.datasets.cifar_batches import parse_python_batch, parse_python_meta
from relatif.pipeline.datasets.description import DATASET_JSON, read_description
from relatif.pipeline.datasets.idx import parse_idx
from relatif.pipeline.datasets.image_columns import ImageForm, decode_images, find_columns, image_form
from relatif.pipeline.datasets.image_parquet import is_image_parquet, read_image_parquet
from relatif.pipeline.datasets.pickles import read_pickled_dict
from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.datasets.surnames import is_surnames, read_surnames
from relatif.pipeline.runs.opening import read_record
from relatif.pipeline.storage.addresses import resolved
from relatif.pipeline.storage.manifests import read_manifest
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig, flatten
from relatif.schemas.errors import RelatifError
from relatif.schemas.reading import load_config, parse_config
from tests.support.bad_inputs_files import hub, image_table
from tests.support.images import SIDE, write_images
from tests.support.labelled import describe_again

pytestmark = pytest.mark.filterwarnings("ignore")

GIVEN: dict[str, Any] = {"task": "mnist_logistic", "data": {"source": "data"}}
NAMES = sorted(flatten(parse_config(GIVEN, origin="here")))
SETTINGS = st.sampled_from(NAMES)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
)
NUMBERS = st.sampled_from(["0", "-1", "1", "true", "1e400", "-0.0", "inf", "nan", "[]", "[1]", "{}", "''", "9" * 30])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def images_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), train=40, test=10, rows_per_group=20)


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    hub(image_table())(folder)
    return folder


@contextmanager
def own_errors_alone() -> Iterator[None]:
    """Let the project's own errors pass; any other fails the test."""
    try:
        yield
    except RelatifError as error:
        if not str(error).startswith("expected"):
            raise TypeError(f"expected a message that says what was expected, found {error}") from error


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return bytes with some of them changed, inserted or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "set", "insert", "remove", "cut"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[place] = draw(st.integers(0, 255))
            case "insert":
                data[place:place] = draw(st.binary(max_size=8))
            case "remove":
                del data[place : place + draw(st.integers(1, 16))]
            case "cut":
                del data[place:]
    return bytes(data)


@given(content=st.binary() | st.text().map(str.encode))
def test_any_configuration_file(store: Store, content: bytes) -> None:
    path = Path(store.url, "any.toml")
    path.write_bytes(content)
    with own_errors_alone():
        load_config(path)


@given(pairs=st.lists(st.tuples(SETTINGS, NUMBERS), max_size=4))
def test_settings_in_a_file(store: Store, pairs: list[tuple[str, str]]) -> None:
    path = Path(store.url, "some.toml")
    path.write_text("".join(f"{name} = {value}\n" for name, value in pairs))
    with own_errors_alone():
        load_config(path)


@given(data=st.data())
def test_any_values_of_settings(data: st.DataObject) -> None:
    values = json.loads(json.dumps(GIVEN))
    for name in data.draw(st.lists(SETTINGS | st.text(max_size=12), max_size=3)):
        section, _, key = name.rpartition(".")
        place = values.setdefault(section, {}) if section else values
        if isinstance(place, dict):
            place[key] = data.draw(VALUES)
    with own_errors_alone():
        config = parse_config(values, origin="here")
        assert isinstance(config, RunConfig)
        assert parse_config(config.model_dump(mode="json"), origin="here") == config


@given(overrides=st.lists(st.text() | st.tuples(SETTINGS, st.text() | NUMBERS).map("=".join), max_size=3))
def test_any_override(store: Store, overrides: list[str]) -> None:
    path = Path(store.url, "given.toml")
    path.write_text('task = "mnist_logistic"\n[data]\nsource = "data"\n')
    with own_errors_alone():
        load_config(path, overrides)


@given(
    address=st.text()
    | st.lists(st.sampled_from(["s3", "ftp", "file", "memory", ":", "/", "//", "::", "~", "@", "a", " ", "?"])).map(
        "".join
    )
)
def test_any_address(address: str) -> None:
    with own_errors_alone():
        assert resolved(address)


@given(data=st.data())
def test_idx_files(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 4) | st.integers(0, 2**32 - 1), max_size=5))
    code = data.draw(st.sampled_from([8, 9, 11, 12, 13, 14]) | st.integers(0, 255))
    count = data.draw(st.integers(0, 64))
    content = bytes([0, 0, code, len(lengths)]) + np.array(lengths, ">u4").tobytes() + bytes(count)
    packed = data.draw(st.sampled_from([content, gzip.compress(content)]))
    for each in (content, data.draw(damaged(packed)), data.draw(st.binary())):
        with own_errors_alone():
            parse_idx(each, "here")


@given(data=st.data())
def test_pickles(data: st.DataObject) -> None:
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2], "batch_label": b"training batch 1 of 5"}
    whole = pickle.dumps(data.draw(VALUES | st.just(batch)), protocol=data.draw(st.integers(0, 5)))
    for each in (whole, data.draw(damaged(whole)), data.draw(st.binary())):
        for read in (read_pickled_dict, parse_python_batch, parse_python_meta):
            with own_errors_alone():
                read(each, "here")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@given(data=st.data())
def test_images(kind: str, data: st.DataObject) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = data.draw(st.integers(0, 9))
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file, kind, exif=exif)
    content = data.draw(damaged(file.getvalue()))
    with own_errors_alone():
        image_form(content, "here")
    with own_errors_alone():
        decode_images([content, None], ImageForm("RGB", 8, 8), "here", 0)


@given(data=st.data())
def test_columns_of_images(data: st.DataObject) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = st.sampled_from([pa.int64(), pa.string(), pa.float64(), pa.uint8(), struct, pa.null(), pa.binary()])
    names = st.sampled_from(["img", "image", "label", "fine_label", "coarse_label", "x"]) | st.text(max_size=3)
    fields = data.draw(st.lists(st.tuples(names, kinds), max_size=5))
    said = data.draw(VALUES.map(lambda value: json.dumps(value, default=str)) | st.text())
    features = json.dumps(
        {"info": {"features": data.draw(st.just(None) | st.dictionaries(names, st.just({"names": 3})))}}
    )
    for text in (said, features):
        with own_errors_alone():
            schema = pa.schema(fields).with_metadata({"huggingface": text})
            find_columns(schema, "here", data.draw(st.none() | names), may_lack_labels=data.draw(st.booleans()))


@given(data=st.data())
def test_published_image_files(hub_folder: Path, store: Store, data: st.DataObject) -> None:
    folder = store.child("hub")
    for split in ("train", "test"):
        whole = (hub_folder / f"{split}.parquet").read_bytes()
        folder.publish_bytes(f"{split}.parquet", data.draw(damaged(whole)) if split == "train" else whole)
    with own_errors_alone():
        assert is_image_parquet(folder)
        for chunks in read_image_parquet(folder).splits.values():
            list(chunks)


@given(data=st.data())
def test_prepared_files_that_are_described_as_they_are(images_folder: Path, store: Store, data: st.DataObject) -> None:
    folder = store.child("prepared")
    names = ["train/part-00000.parquet", "test/part-00000.parquet"]
    for name in (*names, DATASET_JSON):
        folder.publish_bytes(name, (images_folder / name).read_bytes())
    folder.publish_bytes(names[0], data.draw(damaged((images_folder / names[0]).read_bytes())))
    describe_again(Path(folder.url), "train")
    with own_errors_alone():
        dataset = open_dataset(folder)
        for shard in dataset.shards("train", rows=20):
            assert read_shard(folder, dataset, shard).inputs.shape[1:] == (SIDE, SIDE)


@given(data=st.data())
def test_archives_of_names(store: Store, data: st.DataObject) -> None:
    file = io.BytesIO()
    texts = data.draw(st.dictionaries(st.text(min_size=1, max_size=4), st.text() | st.just("Bo\nBi"), max_size=3))
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in {"French": "Bo\nBi\nBu", "Irish": "O'Neil\nMc Coy", **texts}.items():
            archive.writestr(f"names/{name}.txt", text.encode("utf-8", "surrogatepass"))
    folder = store.child("names")
    for content in (file.getvalue(), data.draw(damaged(file.getvalue()))):
        folder.publish_bytes("names.zip", content)
        with own_errors_alone():
            if is_surnames(folder):
                read_surnames(folder)


@given(data=st.data())
def test_archives_of_batches(store: Store, data: st.DataObject) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("data_batch_1", "batches.meta", "test_batch"):
            content = pickle.dumps({"label_names": ["a"], "labels": [1], "data": b""}, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    folder = store.child("cifar")
    content = gzip.compress(data.draw(damaged(file.getvalue())), 1)
    folder.publish_bytes("cifar-10-python.tar.gz", data.draw(st.sampled_from([content, content[:-9]])))
    with own_errors_alone():
        assert is_cifar10(folder)
        read_cifar10(folder)


@given(data=st.data())
def test_records(images_folder: Path, store: Store, data: st.DataObject) -> None:
    described = (images_folder / DATASET_JSON).read_bytes()
    record = {"configuration": GIVEN, "data": {"fingerprint": "a", "address": "b"}, "code": {}}
    proof = {"digest": "a", "outputs": [{"path": "a", "bytes": 1, "sha256": "b"}], "seconds": 1.0, "worker": "w"}
    made = data.draw(VALUES.map(lambda value: json.dumps(value, default=str).encode()) | st.binary())
    for name, whole, read in (
        (DATASET_JSON, described, read_description),
        (run_directory.RUN_JSON, json.dumps(record).encode(), read_record),
        ("proof.json", json.dumps(proof).encode(), lambda folder: read_manifest(folder, "proof.json")),
    ):
        for content in (data.draw(damaged(whole)), made):
            store.publish_bytes(name, content)
            with own_errors_alone():
                read(store)

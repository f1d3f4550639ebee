"""Tensors come back bit by bit, and a damaged file is named."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from relatif.pipeline.storage.store import Store, open_store
from relatif.pipeline.storage.tensors import read_tensors, write_tensors
from relatif.schemas.errors import StorageError

PATH = "checkpoint/model.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    return {"weight": weight, "turned": weight.T, "part": weight[1:], "bias": torch.arange(3), "empty": torch.ones(0)}


def test_tensors_come_back_bit_by_bit(store: Store, tmp_path: Path) -> None:
    receipt = write_tensors(store, PATH, tensors(), {"damping": "0.1"})
    assert receipt.bytes == (tmp_path / PATH).stat().st_size
    back = read_tensors(store, PATH)
    assert set(back) == set(tensors())
    for name, tensor in tensors().items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor.detach())


def test_names_come_in_order(store: Store) -> None:
    names = [f"layer{number}.weight" for number in (3, 1, 4, 0, 2)]
    write_tensors(store, PATH, {name: torch.zeros(1) for name in names}, {})
    assert list(read_tensors(store, PATH)) == sorted(names)


def test_the_library_itself_reads_the_file(store: Store, tmp_path: Path) -> None:
    write_tensors(store, PATH, tensors(), {"damping": "0.1", "layer": "fc"})
    with safe_open(tmp_path / PATH, "pt") as file:
        assert file.metadata() == {"damping": "0.1", "layer": "fc"}
        assert torch.equal(file.get_tensor("turned"), tensors()["turned"].detach())


def test_equal_contents_give_equal_bytes(store: Store) -> None:
    keys = [f"key{i}" for i in range(8)]
    orders = [keys, keys[::-1]] * 4
    receipts = {write_tensors(store, PATH, tensors(), {key: key for key in order}).sha256 for order in orders}
    assert len(receipts) == 1


@pytest.mark.parametrize("metadata", [{"umlaut": "Größe", "damping": "0.1"}, {}])
def test_metadata_stands_in_the_header(store: Store, tmp_path: Path, metadata: dict[str, str]) -> None:
    write_tensors(store, PATH, tensors(), metadata)
    with safe_open(tmp_path / PATH, "pt") as file:
        assert (file.metadata() or {}) == metadata


def test_damage_is_told_by_file(store: Store, tmp_path: Path) -> None:
    write_tensors(store, PATH, tensors(), {})
    whole = (tmp_path / PATH).read_bytes()
    for damaged in (b"", whole[:4], whole[:-1], whole[:50], b"\xff" * 64, whole[:8] + b"[" + whole[9:]):
        (tmp_path / PATH).write_bytes(damaged)
        with pytest.raises(StorageError, match=r"model\.safetensors.*repeat the stage"):
            read_tensors(store, PATH)


def test_a_missing_file_is_named(store: Store) -> None:
    with pytest.raises(StorageError, match=r"found none"):
        read_tensors(store, PATH)

"""Tensors of checkpoints in every form, and what is refused without running any of its code."""

import argparse
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from relatif.pipeline.checkpoints.reading import read_checkpoint
from relatif.schemas.errors import DataError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5, -2.5])}


def wrapped(key: str) -> dict[str, object]:
    return {"epoch": 3, key: STATE, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}


FORMS: dict[str, tuple[str, Callable[[str], object], str]] = {
    "safetensors": ("m.safetensors", lambda path: save_file(STATE, path), "safetensors"),
    "a state dict": ("m.pt", lambda path: torch.save(STATE, path), "a state dict"),
    "the old format": ("m.pth", lambda p: torch.save(STATE, p, _use_new_zipfile_serialization=False), "a state dict"),
    "parameters": (
        "m.bin", lambda p: torch.save({n: nn.Parameter(v) for n, v in STATE.items()}, p), "a state dict"
    ),
    "under state_dict": ("m.ckpt", lambda p: torch.save(wrapped("state_dict"), p), "a state dict under 'state_dict'"),
    "under model": ("m.pt", lambda p: torch.save(wrapped("model"), p), "a state dict under 'model'"),
    "under model_state_dict": (
        "m.pt", lambda p: torch.save(wrapped("model_state_dict"), p), "a state dict under 'model_state_dict'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_tensors(tmp_path: Path, form: str) -> None:
    name, write, kind = FORMS[form]
    write(str(tmp_path / name))
    found = read_checkpoint(str(tmp_path / name))
    assert_same(found.tensors)
    assert (found.kind, found.address) == (kind, str(tmp_path / name))


@pytest.mark.parametrize("form", ["safetensors", "a state dict", "under model"])
def test_a_url_is_read_as_a_path_is(tmp_path: Path, form: str) -> None:
    import fsspec

    name, write, _ = FORMS[form]
    write(str(tmp_path / name))
    with fsspec.open(f"memory://checkpoints/{name}", "wb") as file:
        file.write((tmp_path / name).read_bytes())
    assert_same(read_checkpoint(f"memory://checkpoints/{name}").tensors)


def test_shards_are_joined_and_a_lost_tensor_is_told(tmp_path: Path) -> None:
    for name, value in STATE.items():
        save_file({name: value}, str(tmp_path / f"{name}.safetensors"))
    weights = {name: f"{name}.safetensors" for name in STATE}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    assert_same(read_checkpoint(str(tmp_path)).tensors)
    index.write_text(json.dumps({"weight_map": weights | {"b": "a.bias.safetensors"}}))
    with pytest.raises(DataError, match=r"expected 3 tensors in the shards .* found b in none of them"):
        read_checkpoint(str(tmp_path))


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def scripted() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)
    return file.getvalue()


def archive(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(name, "x")
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a whole module": (lambda: saved(nn.Linear(2, 2)), r"code of torch\.nn\.modules\.linear\.Linear.*; load it where"),
    "arguments": (
        lambda: saved({"state_dict": STATE, "args": argparse.Namespace(lr=1)}),
        r"code of argparse\.Namespace",
    ),
    "TorchScript": (scripted, r"found a TorchScript archive.*; save its state, torch\.save\(torch\.jit\.load"),
    "a list": (lambda: saved([1, 2]), "found list; save the tensors by their names"),
    "an optimizer alone": (lambda: saved({"optimizer": {"lr": 1}}), "a dict of 'optimizer' that is no state dict"),
    "two states": (lambda: saved({"model": STATE, "state_dict": STATE}), "several states, under state_dict and model"),
    "averaged weights beside": (
        lambda: saved({"model": STATE, "ema": {f"module.{name}": 2 * value for name, value in STATE.items()}}),
        "several states, under model and ema; save the one whose predictions are explained",
    ),
    "nothing in it": (lambda: saved({}), "a dict of nothing"),
    "an archive": (lambda: archive("a.txt"), r"found an archive of a\.txt; unpack it"),
    "cut": (lambda: saved(STATE)[:-40], "found a damaged file"),
    "damaged safetensors": (lambda: (20).to_bytes(8, "little") + b"{" + b"x" * 40, "found damaged safetensors"),
    "an array": (array, "found an array of NumPy"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS.*git lfs pull"),
    "a page": (lambda: b"<!DOCTYPE html><html>", "found a page of HTML"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(50), "found an HDF5 file"),
    "empty": (lambda: b"", "a file that begins with b''"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_checkpoint_is_refused_with_what_to_do(tmp_path: Path, what: str) -> None:
    make, message = REFUSED[what]
    (tmp_path / "model.pt").write_bytes(make())
    with pytest.raises(DataError, match=message) as refused:
        read_checkpoint(str(tmp_path / "model.pt"))
    assert "expected a checkpoint of tensors by name at" in str(refused.value)
    assert "\n" not in str(refused.value)


def assert_same(found: object) -> None:
    assert isinstance(found, dict)
    assert list(found) == list(STATE) or set(found) == set(STATE)
    for name, value in STATE.items():
        assert isinstance(found[name], Tensor)
        assert torch.equal(found[name], value)

"""Forms and costs of layers: bytes are those of the files that are written, operations those of the products."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import KroneckerBasis, LayerCurvature
from relatif.pipeline.explaining.stored_curvature import write_layer
from relatif.pipeline.preflight.layers import Block, block_cost, blocks_of, joint_cost
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from tests.support.layered import CASES


def test_blocks_are_those_of_the_layers_with_their_positions() -> None:
    build, draw = CASES["tokens"]
    model = build().double().eval()
    found = blocks_of(forward_pass(model, draw(2), coverage(model)))
    assert found == (
        Block("embedding", "Embedding", 4, 7, 6, diagonal=(False, True)),
        Block("mix", "Linear", 5, 5, 6),
        Block("norm", "LayerNorm", 1, 10, 6, elementwise=True),
        Block("head", "Linear", 3, 6, 1),
    )
    build, draw = CASES["images"]
    model = build().double().eval()
    assert [block.name for block in blocks_of(forward_pass(model, draw(2), coverage(model)))][:2] == [
        "0.group0",
        "0.group1",
    ]


@pytest.mark.parametrize("method", ["kfac", "ekfac", "identity"])
def test_bytes_are_those_of_the_files(tmp_path: Path, method: str) -> None:
    block, store = Block("layer", "Linear", 6, 9, 1), open_store(tmp_path)
    eye = [torch.eye(width, dtype=torch.float64) for width in (6, 9)]
    basis = None if method == "identity" else KroneckerBasis(*eye)
    write_layer(store, "layer", LayerCurvature(basis, torch.ones(6, 9).double()), method)
    tensors = load_file(tmp_path / run_directory.factor_file("layer"))
    cost = block_cost(block, CurvatureConfig(method=method), 100, 10)
    assert cost.bytes == sum(value.nbytes for value in tensors.values())


def test_operations_are_counted() -> None:
    block, rows, terms = Block("layer", "Conv2d", 3, 5, 7), 11, 4
    products = sum(2 * 7 * (5 * 5) for _ in range(rows)) + sum(2 * 7 * (3 * 3) for _ in range(rows * terms))
    solved = 9 * (3**3 + 5**3)
    assert block_cost(block, CurvatureConfig(method="kfac"), rows, terms).flops == products + solved
    assert block_cost(block, CurvatureConfig(method="ekfac"), rows, terms).flops > products + solved
    assert block_cost(block, CurvatureConfig(method="identity"), rows, terms).flops == 0
    joint = joint_cost([block, block], rows, terms)
    assert (joint.form, joint.bytes) == ("one dense matrix 30 x 30", 8 * (30 * 30 + 30))
    assert joint.flops == rows * terms * 30**2 + 9 * 30**3


def test_forms_name_what_a_block_is() -> None:
    norm = Block("norm", "LayerNorm", 1, 10, 6, elementwise=True)
    assert block_cost(norm, CurvatureConfig(), 1, 1).form == "exact block 10 x 10"
    assert block_cost(norm, CurvatureConfig(method="exact"), 1, 1).form == "part of the joint matrix"

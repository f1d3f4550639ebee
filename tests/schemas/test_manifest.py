"""Manifests: proof that says what it is, survives a file, and refuses what it does not know."""

import pytest
from pydantic import ValidationError

from relatif.schemas.manifest import FileReceipt, Manifest

PROOF = Manifest(
    work="score 00000-00001",
    digest="d" * 64,
    outputs=(FileReceipt(path="work/score/a.parquet", bytes=12, sha256="e" * 64, rows=3),),
    seconds=1.5,
    facts={"method": "kfac"},
)


def test_a_manifest_survives_a_file() -> None:
    assert Manifest.model_validate_json(PROOF.model_dump_json()) == PROOF


def test_facts_and_rows_may_be_missing() -> None:
    bare = Manifest(work="train", digest="d", outputs=(FileReceipt(path="a", bytes=0, sha256="e"),), seconds=0)

    assert bare.facts == {}
    assert bare.outputs[0].rows is None


@pytest.mark.parametrize("name", ["work", "digest", "outputs", "seconds"])
def test_nothing_else_may_be_missing(name) -> None:
    values = PROOF.model_dump()
    del values[name]

    with pytest.raises(ValidationError, match=name):
        Manifest.model_validate(values)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Manifest.model_validate({**PROOF.model_dump(), "state": "done"})
    with pytest.raises(ValidationError, match="Extra inputs"):
        FileReceipt.model_validate({**PROOF.outputs[0].model_dump(), "state": "done"})


def test_manifests_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PROOF.digest = "other"
    with pytest.raises(ValidationError, match="frozen"):
        PROOF.outputs[0].bytes = 13


def test_truncated_proof_is_no_proof() -> None:
    text = PROOF.model_dump_json()

    with pytest.raises(ValidationError):
        Manifest.model_validate_json(text[: len(text) // 2])

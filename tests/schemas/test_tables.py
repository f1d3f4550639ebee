"""Table schemas against the contract, spelled out; every column says what it means and in which unit."""

import pyarrow as pa
import pytest

from relatif.schemas.digests import SCHEMA_VERSION
from relatif.schemas.tables import TABLES

CONTRACT = {
    "train_examples": [
        ("train_index", "int64"),
        ("label", "int32"),
        ("predicted_label", "int32"),
        ("probability", "float"),
        ("loss", "float"),
        ("gradient_norm", "float"),
        ("theta_norm", "float"),
        ("self_influence", "float"),
        ("target", "list<element: double>"),
        ("prediction", "list<element: double>"),
    ],
    "test_examples": [
        ("test_index", "int64"),
        ("label", "int32"),
        ("predicted_label", "int32"),
        ("explained_label", "int32"),
        ("probability", "float"),
        ("loss", "float"),
        ("self_influence", "float"),
        ("target", "list<element: double>"),
        ("prediction", "list<element: double>"),
    ],
    "top_k": [
        ("method", "string"),
        ("test_index", "int64"),
        ("rank", "int32"),
        ("train_index", "int64"),
        ("score", "float"),
    ],
    "scores": [
        ("test_index", "int64"),
        ("train_start", "int64"),
        ("influence", "list<element: float not null>"),
    ],
    "influence_sets": [
        ("method", "string"),
        ("k", "int32"),
        ("test_count", "int64"),
        ("cardinality", "int64"),
        ("cardinality_ratio", "double"),
        ("probability_mean", "double"),
        ("probability_std", "double"),
    ],
    "overlap": [
        ("method_a", "string"),
        ("method_b", "string"),
        ("k", "int32"),
        ("overlap", "double"),
    ],
}
"""Arrow's ``float`` is float32 and its ``double`` float64."""

MAY_BE_NULL = {
    "train_examples": ["label", "predicted_label", "probability", "target", "prediction", "train_id"],
    "test_examples": ["label", "predicted_label", "explained_label", "probability", "target", "prediction", "test_id"],
    "top_k": ["train_id"],
    "influence_sets": ["probability_mean", "probability_std"],
    "mislabel_detection": ["right_share"],
    "leave_one_out": ["corrected_test_loss_change"],
    "leave_one_out_predictions": ["corrected_test_loss_change"],
}
"""What only labels or identifiers can say, or what has no second order; every other column always has a value."""


def test_every_table_of_the_contract_is_there() -> None:
    assert set(CONTRACT) <= set(TABLES)
    assert all(spec.name == name for name, spec in TABLES.items())


@pytest.mark.parametrize("name", CONTRACT)
def test_columns_are_the_contracts(name) -> None:
    """Only additions are compatible: what the contract names stands first, in its order, with its type."""
    found = [(field.name, str(field.type)) for field in TABLES[name].schema]

    assert found[: len(CONTRACT[name])] == CONTRACT[name]


@pytest.mark.parametrize("name", TABLES)
def test_every_column_says_what_it_means(name) -> None:
    for field in TABLES[name].schema:
        assert field.metadata is not None
        assert set(field.metadata) == {b"meaning", b"unit"}
        assert all(text.strip() for text in field.metadata.values())
    assert TABLES[name].meaning.strip()


@pytest.mark.parametrize("name", TABLES)
def test_only_what_labels_say_may_be_missing(name) -> None:
    assert [field.name for field in TABLES[name].schema if field.nullable] == MAY_BE_NULL.get(name, [])


def test_arrows_names_of_types() -> None:
    assert [str(kind) for kind in (pa.float32(), pa.float64())] == ["float", "double"]


@pytest.mark.parametrize("name", TABLES)
def test_files_say_what_they_are(name) -> None:
    spec = TABLES[name]

    schema = spec.with_metadata({"damping": "0.001"})

    assert schema.metadata == {
        b"relatif.table": name.encode(),
        b"relatif.meaning": spec.meaning.encode(),
        b"relatif.schema_version": str(SCHEMA_VERSION).encode(),
        b"relatif.damping": b"0.001",
    }
    assert schema.equals(spec.schema, check_metadata=False)
    assert all(one.metadata == other.metadata for one, other in zip(schema, spec.schema, strict=True))
    assert spec.schema.metadata is None

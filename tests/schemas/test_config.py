"""Configurations: read from TOML, overridden on the command line, refused by the name of the setting."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from relatif.schemas.config import RunConfig, flatten
from relatif.schemas.digests import digest
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.reading import load_config, parse_config

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "jobs/configs").glob("*.toml"))

MINIMAL: dict[str, Any] = {"task": "mnist_logistic", "data": {"source": "data/mnist"}}

TOML = """
task = "mnist_logistic"

[data]
source = "data/mnist"

[curvature]
damping = 0.5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "run.toml"
    file.write_text(TOML)
    return file


def test_shipped_configurations_load() -> None:
    assert SHIPPED
    for file in SHIPPED:
        assert load_config(file).task == file.stem


def test_defaults_are_the_contracts() -> None:
    flat = flatten(parse_config(MINIMAL, origin="test"))

    expected = {
        "train.weight_decay": 1e-4,
        "curvature.method": "kfac",
        "curvature.damping": 1e-3,
        "score.methods": ["influence", "theta_relatif", "l_relatif", "nearest_neighbour", "negative_influence"],
        "score.top_k": 20,
        "score.explained_label": "predicted",
        "score.write_scores": False,
        "score.test_limit": None,
        "data.train_limit": None,
    }
    assert {key: flat[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("curvature.damping=0.01", "curvature.damping", 0.01),
        ("curvature.damping=1", "curvature.damping", 1.0),
        ("curvature.damping = 1e-2", "curvature.damping", 0.01),
        ("curvature.method=ekfac", "curvature.method", "ekfac"),
        ('curvature.method="ekfac"', "curvature.method", "ekfac"),
        ("data.train_limit=1000", "data.train_limit", 1000),
        ("data.source=s3://bucket/mnist?a=b", "data.source", "s3://bucket/mnist?a=b"),
        ("data.source='1000'", "data.source", "1000"),
        ("score.write_scores=true", "score.write_scores", True),
        ("score.methods=['gradient_cosine']", "score.methods", ["gradient_cosine"]),
        ("score.explained_label=predicted", "score.explained_label", "predicted"),
        ("score.explained_label=0", "score.explained_label", 0),
        ("score.explained_label=7", "score.explained_label", 7),
        ("statistics.overlap_k=[1, 3]", "statistics.overlap_k", [1, 3]),
        ("train.seed=3", "train.seed", 3),
        ("leave_one_out.curvatures=['exact', 'cg']", "leave_one_out.curvatures", ["exact", "cg"]),
        ("evaluate.what=['any_name']", "evaluate.what", ["any_name"]),
        ("cluster.workers=2", "cluster.workers", 2),
        ("task=module:function", "task", "module:function"),
        ("data.train_limit=null", "data.train_limit", None),
    ],
)
def test_an_override_replaces_one_setting(path, override, key, value) -> None:
    before, after = flatten(load_config(path)), flatten(load_config(path, [override]))

    assert after[key] == value
    assert type(after[key]) is type(value)
    assert {name: found for name, found in after.items() if found != before[name]} in ({key: value}, {})


@pytest.mark.parametrize("override", ["score.explained_label=true", "score.explained_label='true'"])
def test_the_label_true_is_not_taken_for_class_one(path, override) -> None:
    """Unquoted it is TOML's truth value, which as an integer would be 1."""
    assert load_config(path, [override]).score.explained_label == "true"


@pytest.mark.parametrize(
    "asked", ["['l_relatif', 'influence']", "['influence', 'l_relatif', 'influence']", "['influence', 'l_relatif']"]
)
def test_methods_are_each_once_in_the_registrys_order(path, asked) -> None:
    assert load_config(path, [f"score.methods={asked}"]).score.methods == ("influence", "l_relatif")


def test_an_unknown_method_is_named_beside_the_known_ones(path) -> None:
    with pytest.raises(ConfigurationError, match=r"methods among influence, .*, found IF, relatif; use those names"):
        load_config(path, ["score.methods=['relatif', 'IF', 'influence']"])


def test_the_last_override_wins(path) -> None:
    assert load_config(path, ["score.top_k=3", "score.top_k=4"]).score.top_k == 4


def test_an_override_may_begin_a_section(path) -> None:
    assert load_config(path, ["train.weight_decay=0.5"]).train.weight_decay == 0.5


@pytest.mark.parametrize(
    "override", ["nothing", "=3", ".top_k=3", "score.=3", "score..top_k=3", "task.name=3", "curvature.damping.name=3"]
)
def test_what_is_no_override_is_refused(path, override) -> None:
    with pytest.raises(ConfigurationError, match=r"section\.key=value") as caught:
        load_config(path, [override])
    assert override in str(caught.value)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("curvature.dampnig=1", "curvature.dampnig"),
        ("score=1", "score"),
        ("unknown.key=1", "unknown"),
        ("curvature.damping=0", "curvature.damping"),
        ("curvature.damping=-1", "curvature.damping"),
        ("curvature.damping=nan", "curvature.damping"),
        ("curvature.damping=inf", "curvature.damping"),
        ("curvature.damping=small", "curvature.damping"),
        ("leave_one_out.curvatures=[]", "leave_one_out.curvatures"),
        ("leave_one_out.curvatures=['hessian']", "leave_one_out.curvatures"),
        ("curvature.method=exact_hessian", "curvature.method"),
        ("train.weight_decay=-1e-4", "train.weight_decay"),
        ("train.weight_decay=inf", "train.weight_decay"),
        ("train.tolerance=0", "train.tolerance"),
        ("train.seed=-1", "train.seed"),
        ("data.train_limit=0", "data.train_limit"),
        ("data.train_limit=2.5", "data.train_limit"),
        ("data.source=7", "data.source"),
        ("score.methods=[]", "score.methods"),
        ("score.methods=['influence', 'if']", "score.methods"),
        ("evaluate.what=[]", "evaluate.what"),
        ("score.top_k=0", "score.top_k"),
        ("score.top_k=many", "score.top_k"),
        ("score.explained_label=-1", "score.explained_label"),
        ("score.explained_label=2147483648", "score.explained_label"),
        ("score.explained_label=false", "score.explained_label"),
        ("score.explained_label=truth", "score.explained_label"),
        ("score.explained_label=1.5", "score.explained_label"),
        ("score.unit_rows=0", "score.unit_rows"),
        ("cluster.workers=0", "cluster.workers"),
        ("cluster.object_store_bytes=1", "cluster.object_store_bytes"),
        ("statistics.overlap_k=3", "statistics.overlap_k"),
    ],
)
def test_what_can_not_be_set_is_refused_by_name(path, override, key) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, [override])

    message = str(caught.value)
    assert f": {key}" in message
    assert str(path) in message
    assert "(found " in message


@pytest.mark.parametrize("name", ["influence_set_k", "overlap_k"])
@pytest.mark.parametrize("asked", ["[1, 21]", "[0, 1]", "[]"])
def test_k_of_statistics_lies_within_the_ranks(path, name, asked) -> None:
    with pytest.raises(ConfigurationError, match=rf"statistics\.{name} must lie between 1 and score\.top_k = 20"):
        load_config(path, [f"statistics.{name}={asked}"])
    assert load_config(path, [f"statistics.{name}=[1, 21]", "score.top_k=21"]).score.top_k == 21


def test_k_of_statistics_are_the_papers_as_far_as_there_are_ranks(path) -> None:
    by_ranks = {ranks: load_config(path, [f"score.top_k={ranks}"]) for ranks in (20, 7, 1)}

    assert [config.influence_set_k for config in by_ranks.values()] == [(1, 5), (1, 5), (1,)]
    assert [config.overlap_k for config in by_ranks.values()] == [(1, 5, 10, 20), (1, 5), (1,)]
    assert load_config(path, ["statistics.influence_set_k=[2]"]).influence_set_k == (2,)


def test_the_identity_is_damped_by_one_and_nothing_else(path) -> None:
    damping = {
        method: load_config(path, [f"curvature.method={method}"]).curvature.effective_damping
        for method in ("kfac", "ekfac", "identity")
    }

    assert damping == {"kfac": 0.5, "ekfac": 0.5, "identity": 1.0}


def sections(model: BaseModel) -> list[BaseModel]:
    return [model, *(value for value in dict(model).values() if isinstance(value, BaseModel))]


def test_configurations_are_frozen(path) -> None:
    config = load_config(path)

    assert len(sections(config)) == 11
    for section in sections(config):
        name = next(iter(type(section).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, getattr(section, name))


def test_every_section_refuses_unknown_keys() -> None:
    for name in RunConfig.model_fields:
        if name == "task":
            continue
        values = {**MINIMAL, name: {**MINIMAL.get(name, {}), "unknown": 1}}
        with pytest.raises(ConfigurationError, match=rf": {name}\.unknown: Extra inputs are not permitted"):
            parse_config(values, origin="test")


@pytest.mark.parametrize("missing", ["task", "data", "data.source"])
def test_what_is_missing_is_named(missing) -> None:
    section, _, key = missing.partition(".")
    values = {name: value for name, value in MINIMAL.items() if name != section} | ({section: {}} if key else {})

    with pytest.raises(ConfigurationError, match=rf": {missing}: Field required"):
        parse_config(values, origin="test")


def test_what_a_likelihood_is_is_said_with_an_unknown_one(path) -> None:
    with pytest.raises(ConfigurationError, match=r"'quantile'\), where a likelihood is .* see docs/likelihoods.md"):
        load_config(path, ["model.likelihood=quantile"])


def test_every_fault_is_listed_at_once(path) -> None:
    with pytest.raises(ConfigurationError, match=r", found 2 that can't: ") as caught:
        load_config(path, ["score.top_k=0", "train.seed=x"])
    assert "score.top_k" in str(caught.value)
    assert "train.seed" in str(caught.value)


def test_files_that_can_not_be_read_are_named(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml.*No such file.*--config"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("task = \n")
    with pytest.raises(ConfigurationError, match=r"expected TOML in .*broken\.toml.*line 1"):
        load_config(tmp_path / "broken.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"expected TOML in .*binary\.toml.*utf-8"):
        load_config(tmp_path / "binary.toml")


def test_flat_settings_are_json_by_dotted_name(path) -> None:
    flat = flatten(load_config(path, ["statistics.overlap_k=[1, 2]"]))

    assert flat["task"] == "mnist_logistic"
    assert flat["curvature.damping"] == 0.5
    assert flat["statistics.overlap_k"] == [1, 2]
    assert not any(isinstance(value, dict | tuple) for value in flat.values())
    assert len(digest(flat)) == 64


def test_every_setting_shows_in_the_flat_form(path) -> None:
    flat = flatten(load_config(path))
    expected = {"task"}
    for name, field in RunConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            expected |= {f"{name}.{key}" for key in field.annotation.model_fields}

    assert set(flat) == expected


def test_an_unknown_setting_is_told_with_the_known_ones(path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"curvature\.dampning: .*, where the settings are method, denominators, damping"
    ):
        load_config(path, ["curvature.dampning=1"])


def test_null_unsets_what_the_file_sets(path) -> None:
    assert load_config(path, ["data.train_limit=10", "data.train_limit=null"]).data.train_limit is None

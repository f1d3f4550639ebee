"""What the page says of a run in words, for each kind of measurement and of record."""

import json
from pathlib import Path

import pytest

from relatif.pipeline.report.page.about import checks, facts, measured, title_of
from relatif.pipeline.report.page.tables import read_tables
from relatif.schemas import run_directory
from tests.support.finished import METADATA, MadeUp, finished_run
from tests.support.page_inputs import write_kind

MERGED = "label // 2 of the data's"


LOSS = ("raise the loss of this prediction", "lower the loss of this prediction")


def moved(name: str) -> tuple[str, str]:
    return f"lower the {name} of this input", f"raise the {name} of this input"


@pytest.mark.parametrize(
    ("told", "unit", "removed", "added"),
    [
        ({}, "nats", *LOSS),
        ({"measurement": "loss of the true target"}, "nats", *LOSS),
        ({"measurement": "output of the predicted target, as"}, "target units", *moved("output")),
        ({"measurement": "margin of label or output 3"}, "logits", *moved("margin")),
        ({"measurement": "my:own of the predicted target"}, "my:own", *moved("my:own")),
    ],
)
def test_an_effect_has_the_unit_and_the_sign_of_what_is_measured(
    told: dict, unit: str, removed: str, added: str
) -> None:
    found = measured(told)
    assert found.unit == unit
    assert found.effect(scored=False) == f"Removing this example would {removed}"
    assert found.effect(scored=True) == f"Training on this example, too, would {added}"


def test_facts_and_checks_are_those_of_the_record(tmp_path: Path) -> None:
    metadata = METADATA | {
        "covered_parameters": "5 of 7 parameters in 1 layer(s)",
        "labels": "label // 2 of the data's",
    }
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp(metadata=metadata))
    texts = {fact["title"]: fact["text"] for fact in facts(run, read_tables(run))}
    assert texts["Which parameters"] == "5 of 7 parameters in 1 layer."
    assert texts["Labels"] == f"{MERGED}."
    assert "n = 60, to first order" in texts["What an effect means"]
    assert [check["state"] for check in checks(run, None)] == ["none", "none", "none"]

    entries = [{"count": 5, "covered": True, "reason": ""}, {"count": 2, "covered": False, "reason": "no rule"}]
    run.store.publish_bytes(run_directory.COVERAGE, json.dumps(entries).encode())
    states = {check["text"]: check["state"] for check in checks(run, "60 examples were left out.")}
    assert states["5 of 7 parameters are covered. Not covered: 2 no rule."] == "warning"
    assert states["60 examples were left out."] == "good"


def test_examples_that_were_only_scored_are_not_left_out(tmp_path: Path) -> None:
    made = MadeUp(settings={"data": {"scored": "test"}})
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), made)
    texts = {fact["title"]: fact["text"] for fact in facts(run, read_tables(run))}
    assert texts["What an effect means"].startswith("Training on this example, too, would lower the loss")
    assert not any("retrained" in check["text"] for check in checks(run, None))


def test_methods_are_called_as_in_the_paper() -> None:
    names = [title_of(name) for name in ("influence", "theta_relatif", "l_relatif")]
    assert names == ["IF", "θ-RelatIF", "\u2113-RelatIF"]

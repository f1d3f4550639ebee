"""The page's object of made-up runs of every kind: it can be written, and all that it counts is counted again here."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.report.page.page import Chosen, chosen_from_tables, page_data, sample_text
from relatif.pipeline.report.page.sources import source_of
from relatif.pipeline.runs.run import Run
from tests.support.finished import NUMBERS, RANKS, SEVERAL, MadeUp, finished_run
from tests.support.page_inputs import HOSTILE, KINDS, write_kind, write_targets

MADE = {
    "ids": MadeUp(ids=True),
    "without labels": MadeUp(labelled=False),
    "some inputs": MadeUp(tests=(3, 17, 5)),
    "one method": MadeUp(methods=("nearest_neighbour",)),
    "harms alone": MadeUp(methods=("negative_influence",)),
    "without harms": MadeUp(methods=("influence", "gradient_cosine")),
    "another part": MadeUp(settings={"data": {"scored": "test"}}),
    "a logit": MadeUp(metadata={"measurement": "logit of the predicted target"}),
    "untold": MadeUp(metadata={}),
}


def made(folder: Path, given: MadeUp, kind: str = "grey") -> Run:
    return finished_run(folder / "out", write_kind(folder / "data", kind), given)


def of(run: Run, **more: int) -> dict:
    source = source_of(run)
    data = page_data(source, chosen_from_tables(source, **more))
    return json.loads(json.dumps(data, allow_nan=False))


def table(run: Run, name: str) -> list[dict]:
    return pq.read_table(f"{run.store.url}/tables/{name}").to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_every_kind_have_a_page(tmp_path: Path, kind: str) -> None:
    run = made(tmp_path, MadeUp(), kind)
    page = of(run)
    media, train, test = page["run"]["media"], page["train"], page["test"]
    assert (page["sheets"] is None) is (media != "image")
    assert (train["text"] is None) is (media != "text")
    assert (train["row"] is None) is (media != "row")
    for part, count in ((train, 60), (test, 24)):
        assert sorted(set(part["index"])) == sorted(part["index"])
        assert max(part["index"]) < count
        columns = [values for name, values in part.items() if values is not None and name != "fan"]
        assert {len(values) for values in columns} == {len(part["index"])}
    if kind == "text":
        for row, text in zip(train["index"], train["text"], strict=True):
            assert text == (HOSTILE[row % len(HOSTILE)] + (f" {row}" if row % 2 else ""))[:500]


@pytest.mark.parametrize("name", MADE)
def test_runs_of_every_kind_have_a_page(tmp_path: Path, name: str) -> None:
    given = MADE[name]
    page = of(made(tmp_path, given))
    assert len(page["explanations"]) == len(given.tests or range(24))
    assert (page["train"]["id"] is not None) is given.ids
    assert (page["run"]["accuracy"] is None) is not given.labelled
    names = {entry["name"] for entry in page["run"]["methods"]}
    expected = set(given.methods) - {"negative_influence"} or {"negative_influence"}
    assert names == expected == set(page["explanations"][0]["methods"])
    assert set(page["train"]["fan"]) == set(given.methods)
    assert {"another part": "scored image"}.get(name, "training image") == page["run"]["noun"]["train"][0]
    assert {"a logit": "logits"}.get(name, "nats") == page["run"]["unit"]


@pytest.mark.parametrize(("kind", "count"), [(NUMBERS, 1), (SEVERAL, 3)])
def test_targets_that_are_no_classes_have_a_page(tmp_path: Path, kind: str, count: int) -> None:
    run = finished_run(tmp_path / "out", write_targets(tmp_path / "data", count), MadeUp(kind))
    page = of(run)
    rows = {row["train_index"]: row for row in table(run, "train_examples")}
    assert (page["run"]["wrong"], page["run"]["classes"], page["whole"]["confusion"]) == (None, None, None)
    if kind == NUMBERS:
        assert page["run"]["kind"] == "numbers"
        expected = [rows[index]["target"][0] for index in page["train"]["index"]]
        assert page["train"]["label"] == pytest.approx(expected, rel=1e-3)
        errors = [abs(a - b) for a, b in zip(page["test"]["label"], page["test"]["predicted"], strict=True)][:24]
        assert errors == sorted(errors, reverse=True)
    else:
        assert page["run"]["kind"] == "other"
        assert page["train"]["label"] is None


def test_all_that_is_listed_and_counted_is_in_the_tables(tmp_path: Path) -> None:
    run = made(tmp_path, MadeUp(ids=True))
    page, top_k = of(run), table(run, "top_k")
    train, test = page["train"], page["test"]
    fan = Counter((row["method"], row["train_index"]) for row in top_k)
    lists = {(row["method"], row["test_index"], row["rank"]): row for row in top_k}
    rows = {row["train_index"]: row for row in table(run, "train_examples")}
    for method, counts in train["fan"].items():
        assert counts == [fan[method, index] for index in train["index"]]
    for place, each in enumerate(page["explanations"]):
        for method, sides in each["methods"].items():
            for side, name, sign in (("helps", method, 1), ("harms", "negative_influence", -1)):
                if sides[side] is None:
                    assert side == "harms"
                    assert method != "influence"
                    continue
                listed = [lists[name, test["index"][place], rank] for rank in range(1, RANKS + 1)]
                assert [train["index"][position] for position in sides[side]["train"]] == [
                    row["train_index"] for row in listed
                ]
                turned = -1 if method == "nearest_neighbour" else sign
                assert sides[side]["score"] == pytest.approx([turned * row["score"] for row in listed], rel=1e-3)
                effects = [effect_of(method, row, rows[row["train_index"]]) for row in listed]
                found = sides[side]["effect"]
                assert (
                    found is None
                    if None in effects
                    else found == pytest.approx([sign * effect / 60 for effect in effects], rel=2e-3)
                )
    assert train["id"] == [f"train-{index}" for index in train["index"]]


def effect_of(method: str, row: dict, example: dict) -> float | None:
    below = {"influence": 1.0, "theta_relatif": example["theta_norm"], "l_relatif": example["self_influence"] ** 0.5}
    return row["score"] * below[method] if method in below else None


def test_what_an_example_explains_is_listed_errors_first(tmp_path: Path) -> None:
    run = made(tmp_path, MadeUp())
    page, top_k = of(run, reverse=3), table(run, "top_k")
    test, train = page["test"], page["train"]
    wrong = {row["test_index"]: row["label"] != row["predicted_label"] for row in table(run, "test_examples")}
    for method, found in page["reverse"].items():
        for position, inputs in found.items():
            index = train["index"][int(position)]
            ranks = {
                row["test_index"]: row["rank"]
                for row in top_k
                if (row["method"], row["train_index"]) == (method, index)
            }
            expected = sorted(ranks, key=lambda each: (not wrong[each], ranks[each], each))[:3]
            assert [test["index"][each] for each in inputs] == expected
        explained = {
            train["index"].index(row["train_index"])
            for row in top_k
            if row["method"] == method and row["train_index"] in train["index"]
        }
        assert {int(position) for position in found} == explained


def test_inputs_of_the_page_come_first_errors_before_others(tmp_path: Path) -> None:
    page = of(made(tmp_path, MadeUp()), count=10)
    test = page["test"]
    wrong = [a != b for a, b in zip(test["label"], test["predicted"], strict=True)][:10]
    assert len(page["explanations"]) == 10 < len(test["index"])
    assert wrong == sorted(wrong, reverse=True)
    confident = [test["probability"][place] for place in range(10) if wrong[place]]
    assert confident == sorted(confident, reverse=True)
    assert page["run"]["sample"].startswith("10 of 24 inputs are on this page, errors first")


def test_self_influence_is_placed_among_all(tmp_path: Path) -> None:
    run = made(tmp_path, MadeUp())
    page = of(run)
    values = sorted((row["self_influence"] for row in table(run, "train_examples")), reverse=True)
    rows = {row["train_index"]: row["self_influence"] for row in table(run, "train_examples")}
    assert page["train"]["self_place"] == [values.index(rows[index]) + 1 for index in page["train"]["index"]]
    histogram = page["self_histogram"]
    edges = np.linspace(histogram["low"], histogram["high"], 65)
    assert histogram["counts"] == np.histogram(np.log10(values), edges)[0].tolist()


def test_an_input_without_methods_can_not_be_chosen(tmp_path: Path) -> None:
    source = source_of(made(tmp_path, MadeUp()))
    empty = page_data(source, Chosen(np.zeros(0, np.int64), []))
    assert empty["explanations"] == []
    assert sample_text(24, 24, errors=True) == "All 24 inputs are on this page"

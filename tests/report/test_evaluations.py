"""Printed evaluations: every figure of the tables, within 100 columns."""

import pyarrow as pa

from relatif.pipeline.report.evaluations import class_agreement_text, mislabel_detection_text
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import CLASS_AGREEMENT, MISLABEL_DETECTION


def agreement(tests: list[str]) -> pa.Table:
    rows = [
        {"method": method, "test": test, "test_count": 1234, "share": 0.9 - place / 10, "standard_error": 0.0123}
        for test in tests
        for place, method in enumerate(METHODS)
    ]
    return pa.Table.from_pylist(rows, schema=CLASS_AGREEMENT.schema)


def test_class_agreement_has_a_block_for_each_test() -> None:
    text = class_agreement_text(agreement(["identical_class", "identical_subclass"]))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if "1,234 test inputs" in line] == [lines[0], lines[11]]
    assert lines[4].split() == ["IF", "90.00%", "1.23%"]
    assert lines[6].split() == ["l-RelatIF", "70.00%", "1.23%"]
    assert "identical_subclass" not in class_agreement_text(agreement(["identical_class"]))


def test_mislabel_detection_names_the_best_ranking() -> None:
    rows = [
        {"ranking": name, "inspected_share": share, "found_share": share * 3, "area": area}
        for name, area in (("loss", 0.75), ("self_influence / theta_norm", 0.875), ("theta_norm", 0.5))
        for share in (0.05, 0.1)
    ]
    text = mislabel_detection_text(pa.Table.from_pylist(rows, schema=MISLABEL_DETECTION.schema))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "in first 5%" in lines[2]
    assert lines[3].split() == ["loss", "15.0%", "30.0%", "0.7500"]
    assert lines[-1] == "best by area: self_influence / theta_norm (0.8750; 0.5 is chance)"
    assert lines[-2] == ""


def test_mislabel_detection_tells_how_often_the_queue_suggests_the_right_label() -> None:
    row = {"inspected_share": 0.1, "found_share": 0.5, "area": 0.75, "right_share": None}
    rows = [row | {"ranking": "loss"}, row | {"ranking": "label queue", "right_share": 0.975}]
    table = pa.Table.from_pylist(rows, schema=MISLABEL_DETECTION.schema)
    told = "in the first 10% the label queue suggests the right label of 97.5% of those found"
    assert mislabel_detection_text(table).splitlines()[-2] == told
    assert max(map(len, mislabel_detection_text(table).splitlines())) <= 100
    # Tables of before there was a queue.
    assert told not in mislabel_detection_text(table.drop(["right_share"]))

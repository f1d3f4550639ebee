"""Numbers as people read them, and the order of parts."""

import pytest

from relatif.pipeline.showing.shown import Media, ShownExample, amount, cell, label_text, largest, number, probability


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.0, "nat", "+1 nat"),
        (-0.999, "nat", "-1 nat"),
        (0.0999, "nat", "+100 mnat"),
        (9.99e-4, "nat", "+1 mnat"),
        (-1.23e-7, "nat", "-120 nnat"),
        (123456.0, "nat", "+120000 nat"),
        (0.00123, "", "+0.0012"),
        (None, "nat", ""),
        (float("nan"), "nat", ""),
    ],
)
def test_amounts_have_two_digits_and_the_units_prefix(value: float | None, unit: str, text: str) -> None:
    assert amount(value, unit) == text


def test_numbers_and_probabilities_are_short() -> None:
    assert [number(value) for value in (0.0, 1234.5, -0.00012345, float("inf"))] == ["0", "1,230", "-0.000123", ""]
    told = [probability(value) for value in (0.0, 0.006, 0.5, 0.99, 1.0, None)]
    assert told == ["< 1%", "1%", "50%", "99%", "> 99%", ""]


def test_labels_and_parts_are_told() -> None:
    example = ShownExample(1, 7, 0.5, "case-7", "cat", "dog", media=Media(), parts=[("a", 0.1), ("b", -0.3)], rest=0.7)
    assert (example.name, label_text(example)) == ("7 (case-7)", "cat → dog")
    assert example.all_parts == [("a", 0.1), ("b", -0.3), ("not by token", 0.7)]
    assert largest(example.all_parts, 3) == [("not by token", 0.7), ("b", -0.3), ("a", 0.1)]
    first, others = largest(example.all_parts, 2)
    assert first == ("not by token", 0.7)
    assert others[0] == "others"
    assert others[1] == pytest.approx(-0.2)


def test_cells_are_short() -> None:
    assert [cell(value) for value in (True, None, 3, 1 / 3, [1.0, 2.5], "text")] == [
        "yes", "", "3", "0.33333", "1 2.5", "text"
    ]  # fmt: skip
    assert cell(list(range(20))).endswith("11 ...")

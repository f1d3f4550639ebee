"""Panels of the whole run that show examples: the geometry of the methods, one answer for both labels, lists beside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from relatif.pipeline.report.page.document import document
from tests.support.browser import Watched, Window, opened
from tests.support.pages import DIGITS, INCOMES, NAMES, PRICES, made_page, one_input

Write = Callable[..., Path]
DATA: dict[str, Any] = made_page(DIGITS)
WHOLE = DATA["whole"]


def places(page: Watched, method: str) -> np.ndarray:
    """Return where the marks of a method are drawn, [5, 2] with y up."""
    marks = page.page.eval_on_selector_all(
        f".geometry .drawing .cloud-mark.by-{method}",
        "(all) => all.map((one) => one.getBoundingClientRect()).map((box) => [box.x + box.width / 2, -box.y])",
    )
    return np.array(marks)


def written_page(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "page.html"
    path.write_text(document(data, title="made up"), encoding="utf-8")
    return path


def test_influence_marks_the_highest_and_relatif_those_furthest_right(window: Window, written: Write) -> None:
    clouds = WHOLE["geometry"]["clouds"]
    with opened(window, written(DIGITS), at="#whole") as page:
        page.see_all()
        page.page.locator(".geometry .drawing").wait_for()
        assert page.count(".geometry .cloud-point") == len(clouds[0]["points"])
        highest, furthest = places(page, "if"), places(page, "ell")
        assert len(highest) == len(furthest) == 5
        assert highest[:, 1].min() > furthest[:, 1].max()
        assert furthest[:, 0].min() > highest[:, 0].max()
        first = page.page.get_attribute(".geometry .drawing", "aria-label") or ""
        assert "cosines from 0." in first
        assert first.endswith("times less far.")
        assert page.text(".geometry-says") in first
        assert "50 of 60,000 training images, drawn at random" in page.text(".geometry .note")


def test_what_both_name_shows_both_marks_and_a_narrow_range_has_ticks(window: Window, tmp_path: Path) -> None:
    data = made_page(PRICES)
    cloud = data["whole"]["geometry"]["clouds"][0]
    for points in (cloud["points"], *(each["points"] for each in cloud["first"].values())):
        points[:] = [[0.1 * place, 0.4 + 0.01 * place] for place in range(len(points))][:8]
    with opened(window, written_page(tmp_path, data), at="#whole") as page:
        page.see_all()
        told = page.page.locator(".geometry .drawing text").all_text_contents()
        assert any(text[0].isdigit() and 0 < float(text) <= 0.47 for text in told)
        sizes = [
            page.page.eval_on_selector(f".geometry .drawing .by-{method}", "(one) => one.getBoundingClientRect().width")
            for method in ("if", "ell")
        ]
        assert np.allclose(places(page, "if")[:, 0], places(page, "ell")[:, 0], atol=1)
        assert sizes[0] < sizes[1] - 2


def test_another_input_is_drawn_and_its_examples_open(window: Window, written: Write) -> None:
    second = WHOLE["geometry"]["clouds"][1]
    with opened(window, written(DIGITS), at="#whole") as page:
        page.see_all()
        before = places(page, "if")
        picker = page.page.locator(".of-inputs button")
        picker.nth(1).click()
        assert picker.nth(1).get_attribute("aria-pressed") == "true"
        assert picker.nth(1).get_attribute("aria-label") == f"Test image {DATA['test']['index'][second['test']]}"
        page.page.locator(".geometry .drawing").wait_for()
        assert not np.allclose(before, places(page, "if"))
        page.page.locator(".geometry-first .by-ell button").first.click()
        wanted = DATA["train"]["index"][second["first"]["l_relatif"]["train"][0]]
        assert str(wanted) in page.text("#drawer-title")


def test_one_answer_is_explained_for_both_labels(window: Window, written: Write) -> None:
    shown = WHOLE["both_labels"]
    for made, link in ((DIGITS, ".labelled button"), (NAMES, "button.link"), (INCOMES, "button.link")):
        with opened(window, written(made), at="#whole") as page:
            page.see_all()
            panel = page.text(".panel:has(.both-labels)")
            names = [str((made.classes or ())[side["label"]]) for side in shown["sides"]]
            assert f"The model says {names[0]}, the label {names[1]}" in panel
            assert f"gives “{names[0]}” 50% and “{names[1]}” 44%" in panel
            assert page.count(f".both-labels .evidence-side {link}") == 10
    with opened(window, written(PRICES), at="#whole") as page:
        page.see_all()
        assert page.count(".both-labels") == 0
        assert page.count(".geometry .cloud-mark") > 0


def test_figures_of_the_paper_are_tables_of_the_page_s_own_pictures(window: Window, written: Write) -> None:
    single, several = WHOLE["figures"][1:]
    with opened(window, written(DIGITS), at="#whole") as page:
        page.see_all()
        assert page.count(".panel:not(.across) .beside") == page.count(".panel.across .beside.long") == 1
        assert page.count(".beside:not(.long) tbody td") == 3 * len(single["inputs"])
        assert page.count(".beside.long tbody tr") == len(several["inputs"])
        names = page.page.eval_on_selector_all(
            ".beside.long tbody tr:first-child td:last-child button", "(all) => all.map((one) => one.ariaLabel)"
        )
        expected = [DATA["train"]["index"][position] for position in several["lists"]["l_relatif"][0]]
        assert [name.split(",")[0] for name in names] == [f"Training image {index}" for index in expected]


def test_whom_a_frequent_example_explains_is_told_in_its_drawer(window: Window, written: Write) -> None:
    fan = DATA["train"]["fan"]["influence"][0]
    with opened(window, written(DIGITS), at=f"#t={DATA['train']['index'][0]}") as page:
        told = f"By IF {fan // 2:,} of these {fan:,} are inputs explained as “1”: it explains "
        assert told in page.text("dialog.drawer")
        assert "of all 1,000 such inputs." in page.text("dialog.drawer")
    with opened(window, written(DIGITS), at=f"#t={DATA['train']['index'][1]}") as page:
        assert "such inputs" not in page.text("dialog.drawer")


def test_the_page_of_another_label_says_what_speaks_for_it(window: Window, tmp_path: Path) -> None:
    data = one_input(DIGITS)
    predicted = data["test"]["predicted"][0]
    for explained, title in (
        (predicted, "Why the model says that about drawn.png"),
        ((predicted + 1) % 10, f"What speaks for “{(predicted + 1) % 10}”: drawn.png"),
    ):
        data["test"]["explained"][0] = explained
        with opened(window, written_page(tmp_path, data)) as page:
            assert page.text("h1") == title


def test_rows_that_were_only_scored_are_not_left_out(window: Window, tmp_path: Path) -> None:
    data = made_page(DIGITS)
    data["run"] |= {"scored": True, "noun": {"train": ["scored image"] * 2, "test": ["test image"] * 2}}
    with opened(window, written_page(tmp_path, data), at="#inputs") as page:
        page.page.locator(".column.helps .card").first.wait_for()
        foot = page.text(".input-foot")
        assert "would fall (+)" in foot
        assert "if the model were trained on the example, too" in foot
        assert "without the example" not in foot
        page.page.locator(".column.helps .card-open").first.click()
        assert "Effect of training on it, too (influence / n): " in page.text("dialog.drawer")


def test_columns_without_names_say_what_they_are(window: Window, tmp_path: Path) -> None:
    data = made_page(PRICES)
    words = "the numbers that the model reads, in their order"
    with opened(window, written_page(tmp_path, data), at="#inputs") as page:
        page.page.locator(".column.helps .card").first.wait_for()
        assert words not in page.text("#inputs")
    data["columns"] = [f"x{number + 1}" for number in range(len(data["columns"]))]
    with opened(window, written_page(tmp_path, data), at="#inputs") as page:
        page.page.locator(".column.helps .card").first.wait_for()
        assert words in page.text(".input-head")


def test_names_of_curves_stand_beside_them_and_marks_upon_them(window: Window, tmp_path: Path) -> None:
    data = made_page(DIGITS)
    reach = data["whole"]["reach"]
    # Four examples reach 56% of the inputs, three but 40%: half is not reached exactly.
    reach["curves"]["influence"] = [[1, 0.2], [2, 0.3], [3, 0.4], [4, 0.56], [9, 1.0]]
    reach["half"]["influence"] = 4
    with opened(window, written_page(tmp_path, data), at="#whole") as page:
        page.see_all()
        drawing = page.page.locator(".panel .drawing:has(.curve-name)").first
        assert drawing.evaluate(
            "(one) => { const curve = one.querySelector('path.curve.by-if'), dot = one.querySelector('.by-if .dot');"
            " return curve.isPointInStroke(new DOMPoint(dot.cx.baseVal.value, dot.cy.baseVal.value)); }"
        )
        apart = drawing.evaluate(
            "(one) => { const right = Math.max(...[...one.querySelectorAll('path.curve[class*=by-]')].map((each) =>"
            " each.getBBox().x + each.getBBox().width));"
            " return [...one.querySelectorAll('.curve-name')].map((each) => each.getBBox().x - right); }"
        )
        assert len(apart) == len(reach["curves"])
        assert min(apart) > 0


def test_the_sentence_above_the_grid_counts_what_the_grid_shows(window: Window, written: Write) -> None:
    train = DATA["train"]
    with opened(window, written(DIGITS), at="#whole") as page:
        page.see_all()
        panel = page.page.locator(".panel:has(.dominating)")
        for method, title in (("influence", "IF"), ("l_relatif", "\u2113-RelatIF")):
            panel.get_by_role("button", name=title, exact=True).click()
            positions = WHOLE["dominating"][method]
            missed = sum(train["label"][place] != train["predicted"][place] for place in positions)
            assert panel.locator(".dominator").count() == len(positions)
            told = {0: "none", len(positions): "all"}.get(missed, str(missed))
            expected = f"Of the {len(positions)} that {title} names for most inputs the model gets {told} wrong."
            assert panel.locator(".dominating-wrong").inner_text() == expected


def test_counts_of_rounded_gradients_are_about(window: Window, tmp_path: Path) -> None:
    data = made_page(DIGITS)
    for each in data["explanations"][0]["methods"].values():
        each["histogram"] = each["histogram"] and each["histogram"] | {"rounded": True}
    with opened(window, written_page(tmp_path, data), at="#inputs") as page:
        assert page.text(".column.helps .about").strip().startswith("about ")
        page.page.keyboard.press("ArrowRight")
        assert not page.text(".column.helps .about").strip().startswith("about ")

"""One training example in its drawer: what it shows, where the focus is, how it closes, where it leads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relatif.pipeline.report.page.document import document
from tests.support.browser import Watched, Window, opened
from tests.support.pages import DIGITS, INCOMES, NAMES, made_page

Write = Callable[..., Path]
DATA: dict[str, Any] = made_page(DIGITS)
TRAIN = DATA["train"]
FIRST = DATA["explanations"][0]["methods"]["l_relatif"]["helps"]["train"][0]


@pytest.fixture
def page(window: Window, written: Write) -> Iterator[Watched]:
    with opened(window, written(DIGITS), at="#inputs") as opened_page:
        opened_page.page.locator(".column.helps .card-open").first.wait_for()
        yield opened_page


def open_first(page: Watched) -> None:
    page.page.locator(".column.helps .card-open").first.focus()
    page.page.keyboard.press("Enter")
    page.page.locator("dialog.drawer").wait_for()


def focused(page: Watched, selector: str) -> bool:
    return bool(page.page.evaluate("(selector) => document.activeElement.closest(selector) !== null", selector))


def test_it_tells_about_the_example(page: Watched) -> None:
    open_first(page)
    drawer = page.text("dialog.drawer")
    assert str(TRAIN["index"][FIRST]) in page.text("#drawer-title")
    assert f"no. {TRAIN['self_place'][FIRST]:,} of 60,000" in drawer
    assert "On the input that is shown\nEffect of leaving it out (influence / n): " in drawer.replace("\n\n", "\n")
    assert page.count("dialog .drawing text.hidden") == 0
    fans = page.page.eval_on_selector_all("dialog .bar-value", "(all) => all.map((one) => one.textContent)")
    assert fans == [f"{TRAIN['fan'][method][FIRST]:,}" for method in TRAIN["fan"]]


def test_the_focus_stays_inside_and_returns(page: Watched) -> None:
    open_first(page)
    for _ in range(6):
        page.page.keyboard.press("Tab")
        assert focused(page, "dialog.drawer") or focused(page, "body:focus")
    assert page.page.url.endswith(f"#t={TRAIN['index'][FIRST]}")
    page.page.keyboard.press("Escape")
    page.page.locator("dialog.drawer").wait_for(state="hidden")
    assert focused(page, ".column.helps .card:first-child .card-open")
    assert page.page.url.endswith(f"#q={DATA['test']['index'][0]}")


def test_keys_of_the_page_rest_while_it_is_open(page: Watched) -> None:
    before = page.text(".facts-line")
    open_first(page)
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("1")
    page.page.keyboard.press("Escape")
    assert page.text(".facts-line") == before


def test_a_click_beside_it_closes_it(page: Watched) -> None:
    open_first(page)
    page.page.mouse.click(200, 400)
    page.page.locator("dialog.drawer").wait_for(state="hidden")


def test_a_link_opens_it_and_an_absent_one_shows_the_command(window: Window, written: Write) -> None:
    with opened(window, written(DIGITS), at=f"#t={TRAIN['index'][3]}") as page:
        assert str(TRAIN["index"][3]) in page.text("#drawer-title")
    with opened(window, written(DIGITS), at="#t=59999") as page:
        assert page.text("dialog .command") == "relatif explain --run runs/made_up --train-index 59999"


def test_an_input_that_it_explains_is_shown(window: Window, written: Write) -> None:
    reached = {int(place): inputs for place, inputs in DATA["reverse"]["influence"].items()}
    position, inputs = next((p, own) for p, own in reached.items() if any(i < DIGITS.explained for i in own))
    wanted = next(i for i in inputs if i < DIGITS.explained)
    with opened(window, written(DIGITS), at=f"#t={TRAIN['index'][position]}") as page:
        page.page.locator("dialog .strip button").first.click()
        page.page.locator("dialog.drawer").wait_for(state="hidden")
        assert page.text(".facts-line .mono") == str(DATA["test"]["index"][wanted])


def test_a_label_of_the_queue_is_looked_at_from_it(window: Window, written: Write) -> None:
    position = DATA["labels"]["rows"][4]["train"]
    with opened(window, written(DIGITS), at=f"#t={TRAIN['index'][position]}") as page:
        page.page.get_by_role("button", name="Look at this label").click()
        assert str(TRAIN["index"][position]) in page.text("#labels .label-one .facts-line")
        assert page.text("nav a[aria-current]") == "Labels"


def test_the_help_tells_the_keys(page: Watched) -> None:
    page.page.keyboard.press("?")
    assert "exclude" in page.text("dialog.help")
    page.page.keyboard.press("Escape")
    assert not page.page.locator("dialog.help").is_visible()


def test_examples_are_called_by_their_own_ids(window: Window, written: Write) -> None:
    data = made_page(INCOMES)
    train, helps = data["train"], data["explanations"][0]["methods"]["l_relatif"]["helps"]["train"]
    with opened(window, written(INCOMES), at="#inputs") as page:
        page.page.locator(".column.helps .card-open").first.wait_for()
        names = page.page.locator(".column.helps .card-open").all_text_contents()
        assert names == [train["id"][position] for position in helps[: len(names)]]
        assert f"{data['test']['id'][0]} · index {data['test']['index'][0]}" in page.text(".facts-line")
        open_first(page)
        assert train["id"][helps[0]] in page.text("#drawer-title")
        assert f"index {train['index'][helps[0]]}" in page.text("dialog.drawer")
        assert page.page.url.endswith(f"#t={train['index'][helps[0]]}")


def test_an_id_that_is_the_text_is_not_said_again(window: Window, tmp_path: Path) -> None:
    data = made_page(NAMES)
    first, other = data["explanations"][0]["methods"]["l_relatif"]["helps"]["train"][:2]
    train = data["train"]
    train["id"] = [f"{text}\u0301" for text in train["text"]]
    train["id"][other] = "own-7"
    path = tmp_path / "names.html"
    path.write_text(document(data, title="made up"), encoding="utf-8")
    with opened(window, path, at="#inputs") as page:
        page.page.locator(".column.helps .card-open").first.wait_for()
        names = page.page.locator(".column.helps .card-open").all_text_contents()
        assert names[:2] == [str(train["index"][first]), "own-7"]

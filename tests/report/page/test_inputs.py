"""The list of inputs and the one that is shown: search, chips, keys, methods, links, cells that filter."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Watched, Window, opened
from tests.support.pages import DIGITS, INCOMES, NAMES, PLAIN, PRICES, made_page

Write = Callable[..., Path]
DATA: dict[str, Any] = made_page(DIGITS)
TEST = DATA["test"]
INPUTS = range(DIGITS.explained)
WRONG = [i for i in INPUTS if TEST["label"][i] != TEST["predicted"][i]]


@pytest.fixture
def page(window: Window, written: Write) -> Iterator[Watched]:
    with opened(window, written(DIGITS), at="#inputs") as opened_page:
        opened_page.page.locator(".list-row").first.wait_for()
        yield opened_page


def shown(page: Watched) -> int:
    """Position of the input that is shown, by the index in its head."""
    return int(TEST["index"].index(int(page.text(".facts-line .mono"))))


def listed(page: Watched) -> list[int]:
    return [
        int(value)
        for value in page.page.eval_on_selector_all(
            "#inputs .list-row", "(all) => all.map((row) => row.dataset.position)"
        )
    ]


def search(page: Watched, words: str) -> list[int]:
    page.page.locator("#inputs .search").first.fill(words)
    return listed(page)


def test_errors_come_first_and_the_first_is_shown(page: Watched) -> None:
    assert listed(page) == list(INPUTS)
    assert list(range(len(WRONG))) == WRONG
    assert shown(page) == 0
    assert str(DIGITS.classes and DIGITS.classes[TEST["predicted"][0]]) in page.text(".says")


def test_an_index_or_a_label_with_an_answer_is_found_and_shown(page: Watched) -> None:
    assert search(page, str(TEST["index"][7]))[0] == 7
    assert shown(page) == 7
    assert search(page, "") == list(INPUTS)
    label, predicted = TEST["label"][3], TEST["predicted"][3]
    wanted = [i for i in INPUTS if (TEST["label"][i], TEST["predicted"][i]) == (label, predicted)]
    assert search(page, f"{label}→{predicted}") == wanted
    assert search(page, f"{label}->{predicted}") == wanted


def test_an_index_that_is_not_on_the_page_shows_the_command(page: Watched) -> None:
    absent = next(
        index for index in range(9000) if not any(str(known).startswith(str(index)) for known in TEST["index"])
    )
    assert search(page, str(absent)) == []
    page.page.get_by_role("button", name="How to explain it").click()
    assert page.text(".command") == f"relatif explain --run runs/made_up --test-index {absent}"


def test_texts_and_ids_are_searched(window: Window, written: Write) -> None:
    texts = made_page(NAMES)["test"]["text"][: NAMES.explained]
    with opened(window, written(NAMES), at="#inputs") as page:
        wanted = [place for place, text in enumerate(texts) if "Market".lower() in text.lower()]
        assert 0 < len(wanted) < NAMES.explained
        assert search(page, "Market") == wanted
    with opened(window, written(INCOMES), at="#inputs") as page:
        ids = made_page(INCOMES)["test"]["id"]
        assert search(page, ids[5]) == [5]


def test_chips_list_what_they_say(page: Watched) -> None:
    chips = page.page.locator("#inputs .chip")
    # Before anything is chosen.
    assert page.page.locator(".chips.classes .chip").count() == len({TEST["label"][i] for i in INPUTS})
    chips.filter(has_text="Wrong").first.click()
    assert listed(page) == WRONG
    assert chips.filter(has_text="Wrong").first.get_attribute("aria-pressed") == "true"
    chips.filter(has_text="Right").first.click()
    assert listed(page) == [i for i in INPUTS if i not in WRONG]
    chips.filter(has_text="Wrong but sure").click()
    assert listed(page) == [i for i in WRONG if TEST["probability"][i] > 0.9]
    page.page.locator(".chips.classes .chip", has_text="4").click()
    assert listed(page) == [i for i in INPUTS if TEST["label"][i] == 4]


def test_many_classes_are_typed(window: Window, written: Write) -> None:
    test = made_page(PLAIN)["test"]
    with opened(window, written(PLAIN), at="#inputs") as page:
        assert page.count(".chips.classes") == 0
        field = page.page.locator("#inputs .class-field input")
        field.fill(f"class {test['label'][2]}")
        field.press("Enter")
        wanted = [i for i in range(PLAIN.explained) if test["label"][i] == test["label"][2]]
        assert listed(page) == wanted


def test_targets_that_are_numbers_have_residuals(window: Window, written: Write) -> None:
    test = made_page(PRICES)["test"]
    off = [test["predicted"][i] - test["label"][i] for i in range(PRICES.explained)]
    with opened(window, written(PRICES), at="#inputs") as page:
        page.page.locator(".chip", has_text="Too low").click()
        assert listed(page) == [i for i, value in enumerate(off) if value < 0]
        assert "too low" in page.text(".says")


def test_keys_walk_through_what_is_listed(page: Watched) -> None:
    keyboard = page.page.keyboard
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    assert shown(page) == 2
    keyboard.press("ArrowLeft")
    assert shown(page) == 1
    assert page.page.url.endswith(f"#q={TEST['index'][1]}")
    keyboard.press("e")
    assert listed(page) == WRONG
    keyboard.press("/")
    assert page.page.evaluate("document.activeElement.type") == "search"
    keyboard.press("ArrowDown")
    keyboard.press("ArrowDown")
    assert shown(page) == 1
    assert page.page.locator("#inputs [role=listbox]").get_attribute("aria-activedescendant") == "input-1"


def test_a_method_is_switched_by_click_and_by_key(page: Watched) -> None:
    first = DATA["explanations"][0]["methods"]
    for key, method in (("1", "influence"), ("2", "theta_relatif"), ("3", "l_relatif")):
        page.page.keyboard.press(key)
        names = page.page.eval_on_selector_all(".column.helps .card-open", "(all) => all.map((one) => one.ariaLabel)")
        wanted = [DATA["train"]["index"][position] for position in first[method]["helps"]["train"][:10]]
        assert [int(name.split()[2].rstrip(",:")) for name in names] == wanted
        assert page.count(".method[aria-pressed=true]") == 1
    page.page.locator(".method").first.click()
    assert "IF" in page.text(".column.helps .column-units")
    assert page.page.evaluate("document.activeElement.className").startswith("method")


def test_cards_tell_effect_score_place_and_frequency_and_are_all_shown_on_request(page: Watched) -> None:
    page.page.keyboard.press("1")
    listed_first = DATA["explanations"][0]["methods"]["influence"]
    card = page.page.locator(".column.helps .card").first.inner_text()
    assert f"+{listed_first['helps']['score'][0]:.3g}" in card
    assert f"{'corrected' if listed_first['helps']['corrected'] else 'effect'} +" in card
    assert "nat" in card
    assert "nearest" in card
    assert f"in {DATA['train']['fan']['influence'][0]} inputs" in card
    assert page.count(".column.helps .card:first-child .often") == 1
    harm = page.page.locator(".column.harms .card").first.inner_text()
    assert "\u2212" in harm
    assert page.count(".column.helps .card") == 10
    page.page.get_by_role("button", name="Show all 20").click()
    assert page.count(".column.helps .card") == 20


def test_a_link_leads_to_its_input(window: Window, written: Write) -> None:
    place = DIGITS.explained - 1
    with opened(window, written(DIGITS), at=f"#q={TEST['index'][place]}") as page:
        page.page.locator(".facts-line").first.wait_for()
        assert shown(page) == place
        assert page.text("nav a[aria-current]") == "Inputs"


def test_a_cell_of_a_matrix_lists_its_inputs(page: Watched) -> None:
    label, predicted = TEST["label"][0], TEST["predicted"][0]
    page.page.evaluate("location.hash = '#whole'")
    page.see_all()
    page.page.locator(".matrix.amber tbody tr").nth(label).locator("td").nth(predicted).locator("button").click()
    assert listed(page) == [i for i in INPUTS if (TEST["label"][i], TEST["predicted"][i]) == (label, predicted)]
    assert "label" in page.text("#inputs .chip[aria-pressed=true]")


def test_a_cell_of_the_helpers_lists_inputs_that_have_such_a_helper(page: Watched) -> None:
    page.page.keyboard.press("1")
    page.page.evaluate("location.hash = '#whole'")
    page.see_all()
    explained = TEST["explained"][0]
    lists = [entry["methods"]["influence"]["helps"]["train"] for entry in DATA["explanations"]]
    helper = DATA["train"]["label"][lists[0][0]]
    panel = page.page.locator(".panel", has_text="Which labels the helpers have")
    panel.locator("tbody tr").nth(explained).locator("td").nth(helper).locator("button").click()
    labels = [{DATA["train"]["label"][position] for position in positions} for positions in lists]
    assert listed(page) == [i for i in INPUTS if TEST["explained"][i] == explained and helper in labels[i]]


def test_shared_words_are_marked_and_cells_that_differ(window: Window, written: Write) -> None:
    with opened(window, written(NAMES), at="#inputs") as page:
        mine = page.text("#inputs .input-text").lower()
        marked = page.page.eval_on_selector_all(".card-text mark", "(all) => all.map((one) => one.textContent)")
        assert marked
        assert all(word[:3].lower() in mine for word in marked)
    with opened(window, written(INCOMES), at="#inputs") as page:
        card = page.page.locator(".column.helps .card").first
        assert card.locator(".cells > dl .cell-pair").count() == 8
        assert card.locator("details .cell-pair").count() == 4
        assert card.locator(".differs").count() > 0


def test_enter_and_escape_leave_the_search_field_and_digits_stay_in_it(page: Watched) -> None:
    field = page.page.locator("#inputs .search").first
    chosen = page.text(".method[aria-pressed=true] .method-title b")
    field.press_sequentially("1")
    assert field.input_value() == "1"
    assert page.text(".method[aria-pressed=true] .method-title b") == chosen
    field.press("Enter")
    assert field.input_value() == "1"
    page.page.keyboard.press("1")
    assert page.text(".method[aria-pressed=true] .method-title b") == "IF"
    assert field.input_value() == "1"
    field.focus()
    field.press("Escape")
    assert field.input_value() == ""
    page.page.keyboard.press("2")
    assert "RelatIF" in page.text(".method[aria-pressed=true] .method-title b")
    assert field.input_value() == ""


def test_the_mouse_meets_the_titles_of_a_card_and_opens_it_there_too(page: Watched) -> None:
    page.page.keyboard.press("1")
    met = page.page.eval_on_selector_all(
        ".column.helps .card:first-child [title]",
        "(all) => all.map((one) => { const box = one.getBoundingClientRect();"
        " one.scrollIntoView({block: 'center'}); const now = one.getBoundingClientRect();"
        " const met = document.elementFromPoint(now.x + now.width / 2, now.y + now.height / 2);"
        " return one.contains(met); })",
    )
    assert len(met) >= 2
    assert all(met)
    page.page.locator(".column.helps .card:first-child .effect").click()
    assert page.page.locator("dialog.drawer[open]").count() == 1


def test_effects_of_a_column_have_one_unit_and_equal_digits(page: Watched) -> None:
    for column in ("helps", "harms", "nearest"):
        told = page.page.locator(f".column.{column} .effect").all_inner_texts()
        words = [text.split()[-2:] for text in told if not text.endswith(" 0 nat")]
        assert len(words) > 1
        assert len({unit for _, unit in words}) == 1
        assert len({len(amount.partition(".")[2]) for amount, _ in words}) == 1

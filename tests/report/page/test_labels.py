"""The label queue: one key each, undo, progress, the file of decisions in the user's ids and its way back."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relatif.pipeline.report.page.document import document
from tests.support.browser import Watched, Window, opened
from tests.support.pages import ATTACK, DIGITS, HOSTILE, INCOMES, PLAIN, made_page

Write = Callable[..., Path]
DATA: dict[str, Any] = made_page(DIGITS)
ROWS = DATA["labels"]["rows"]
HEAD = ["train_index", "train_id", "label", "decision", "new_label"]


def index_of(data: dict[str, Any], place: int) -> int:
    return int(data["train"]["index"][data["labels"]["rows"][place]["train"]])


def label_of(place: int) -> int:
    return int(DATA["train"]["label"][ROWS[place]["train"]])


@pytest.fixture
def page(window: Window, written: Write) -> Iterator[Watched]:
    with opened(window, written(DIGITS), at="#labels") as opened_page:
        opened_page.page.locator(".label-one .says").wait_for()
        yield opened_page


def downloaded(page: Watched) -> list[list[str]]:
    with page.page.expect_download() as started:
        page.page.get_by_role("button", name="Download decisions.csv").click()
    assert started.value.suggested_filename == "decisions.csv"
    return list(csv.reader(io.StringIO(Path(started.value.path()).read_text(encoding="utf-8"), newline="")))


def dropped(page: Watched, text: str) -> str:
    page.page.evaluate("document.querySelector('#file-notice').textContent = ''")
    page.page.evaluate(
        "(text) => { const held = new DataTransfer(); held.items.add(new File([text], 'decisions.csv'));"
        " const drop = new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true});"
        " document.querySelector('#labels').dispatchEvent(drop); }",
        text,
    )
    # Not by a script that is asked again and again: the page's policy lets none be made of text.
    page.page.locator("#file-notice:not(:empty)").wait_for(state="attached")
    return page.text("#file-notice")


def as_csv(records: list[list[str]]) -> str:
    held = io.StringIO(newline="")
    csv.writer(held).writerows(records)
    return held.getvalue()


def test_each_key_decides_and_goes_on(page: Watched) -> None:
    assert ROWS[1]["suggested"] != label_of(1)
    for key in ("k", "c", "x", "l"):
        page.page.keyboard.press(key)
    other = next(label for label in range(10) if label not in (label_of(4), ROWS[4]["suggested"]))
    page.page.keyboard.press(str(other))
    page.page.keyboard.press(str(label_of(5)))
    assert page.text(".progress b") == f"6 of {DIGITS.labels}"
    assert downloaded(page) == [
        HEAD,
        [str(index_of(DATA, 0)), "", str(label_of(0)), "keep", ""],
        [str(index_of(DATA, 1)), "", str(label_of(1)), "change", str(ROWS[1]["suggested"])],
        [str(index_of(DATA, 2)), "", str(label_of(2)), "exclude", ""],
        [str(index_of(DATA, 3)), "", str(label_of(3)), "later", ""],
        [str(index_of(DATA, 4)), "", str(label_of(4)), "change", str(other)],
        [str(index_of(DATA, 5)), "", str(label_of(5)), "keep", ""],
    ]


def test_undo_takes_back_one_after_the_other(page: Watched) -> None:
    for key in ("k", "x", "u"):
        page.page.keyboard.press(key)
    assert str(index_of(DATA, 1)) in page.text(".label-one .facts-line")
    assert downloaded(page) == [HEAD, [str(index_of(DATA, 0)), "", str(label_of(0)), "keep", ""]]
    page.page.keyboard.press("u")
    assert downloaded(page) == [HEAD]


def test_buttons_do_what_keys_do_and_hold_the_focus(page: Watched) -> None:
    page.page.locator("[data-decision=exclude]").focus()
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.dataset.decision") == "exclude"
    page.page.locator(".class-keys button").nth((label_of(1) + 3) % 10).click()
    assert [row[3] for row in downloaded(page)[1:]] == ["exclude", "change"]


def test_keys_of_labels_rest_elsewhere(page: Watched) -> None:
    page.page.evaluate("location.hash = '#inputs'")
    page.page.locator("#inputs .search").first.focus()
    page.page.keyboard.press("k")
    assert page.text(".progress b") == f"0 of {DIGITS.labels}"


def test_a_file_that_is_dropped_goes_on_where_it_ended(page: Watched) -> None:
    elsewhere = ["59998", "", "3", "exclude", ""]
    records = [HEAD, [str(index_of(DATA, 0)), "", str(label_of(0)), "change", "7"], elsewhere]
    assert dropped(page, as_csv(records)) == "1 decisions taken up, 1 about other examples kept for the download."
    assert str(index_of(DATA, 1)) in page.text(".label-one .facts-line")
    page.page.keyboard.press("k")
    assert downloaded(page) == [*records[:2], [str(index_of(DATA, 1)), "", str(label_of(1)), "keep", ""], elsewhere]


def test_a_file_that_does_not_fit_is_refused(page: Watched) -> None:
    refused: list[tuple[int, str, str]] = [
        (3, "maybe", "line 2: expected keep, change, exclude, later, found maybe"),
        (4, "ten", "line 2: expected a class, found ten"),
        (4, "", "line 2: expected a new_label for a change, found nothing"),
        (2, "another", "another data set"),
        (0, "x", "line 2: expected a row number as train_index, found x"),
    ]
    for place, value, told in refused:
        record = [str(index_of(DATA, 0)), "", str(label_of(0)), "change", "7"]
        record[place] = value
        assert told in dropped(page, as_csv([HEAD, record]))
        assert page.text(".progress b") == f"0 of {DIGITS.labels}"
    assert "expected the columns" in dropped(page, "a,b\n1,2\n")


def test_ids_and_names_stand_in_the_file(window: Window, written: Write) -> None:
    data = made_page(INCOMES)
    with opened(window, written(INCOMES), at="#labels") as page:
        page.page.keyboard.press("0")
        position = data["labels"]["rows"][0]["train"]
        label = data["train"]["label"][position]
        decided = ["keep", ""] if label == 0 else ["change", "<=50K"]
        wanted = [str(index_of(data, 0)), data["train"]["id"][position], (INCOMES.classes or ())[label], *decided]
        assert downloaded(page) == [HEAD, wanted]


def test_a_class_of_many_is_typed(window: Window, written: Write) -> None:
    with opened(window, written(PLAIN), at="#labels") as page:
        field = page.page.locator("#labels .class-field input")
        field.fill("class 299")
        field.press("Enter")
        assert downloaded(page)[1][3:] == ["change", "class 299"]


def test_names_with_quotes_and_commas_come_back(window: Window, written: Write) -> None:
    data = made_page(ATTACK)
    place = next(place for place, row in enumerate(data["labels"]["rows"]) if data["train"]["label"][row["train"]] == 1)
    with opened(window, written(ATTACK), at="#labels") as page:
        for _ in range(place):
            page.page.keyboard.press("ArrowRight")
        page.page.keyboard.press("0")
        records = downloaded(page)
        assert records[1][4] == HOSTILE
        assert dropped(page, as_csv(records)) == "1 decisions taken up."
        assert downloaded(page) == records


def reloaded(page: Watched) -> None:
    page.page.reload()
    page.page.locator(".label-one .says").wait_for()


def test_decisions_are_kept_for_the_run_across_a_reload(page: Watched, written: Write, tmp_path: Path) -> None:
    for key in ("k", "x"):
        page.page.keyboard.press(key)
    made = downloaded(page)
    assert "Kept in this browser" in page.text(".label-one .evidence")
    reloaded(page)
    assert downloaded(page) == made
    assert page.text(".progress b") == f"2 of {DIGITS.labels}"
    assert str(index_of(DATA, 2)) in page.text(".label-one .facts-line")
    page.page.keyboard.press("u")
    assert downloaded(page) == made, "what was decided before a reload is not undone"
    # Another run has none of them: its digests are others.
    other = made_page(DIGITS)
    other["run"]["digests"] = [{"what": "data", "digest": "0" * 64}]
    (tmp_path / "other.html").write_text(document(other, title="made up"), encoding="utf-8")
    page.page.goto((tmp_path / "other.html").as_uri() + "#labels")
    page.page.locator(".label-one .says").wait_for()
    assert page.text(".progress b") == f"0 of {DIGITS.labels}"


def test_a_browser_that_keeps_nothing_loses_nothing_but_that(page: Watched) -> None:
    page.page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
    page.page.keyboard.press("k")
    assert "Kept in this tab until you download it" in page.text(".label-one .evidence")
    assert len(downloaded(page)) == 2


def test_what_is_kept_that_does_not_fit_is_left_alone(page: Watched) -> None:
    page.page.keyboard.press("k")
    page.page.evaluate("for (const name of Object.keys(localStorage)) localStorage.setItem(name, 'a,b')")
    reloaded(page)
    assert page.text(".progress b") == f"0 of {DIGITS.labels}"


def test_the_sentence_says_what_a_suggestion_is_made_of(page: Watched) -> None:
    page.page.keyboard.press("ArrowRight")
    told = page.text(".label-one .says")
    assert f"The model and the labels of the nearest together suggest {ROWS[1]['suggested']}" in told
    assert "evidence says" not in told
    boxes = page.page.eval_on_selector_all(
        ".decisions-preview", "(all) => all.map((one) => [one.scrollWidth, one.clientWidth])"
    )
    assert all(needed <= width for needed, width in boxes)

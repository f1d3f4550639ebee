"""The page opens from disk: each kind of data, in little time, without a request or a complaint of the browser."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pytest

from relatif.pipeline.report.page.document import document
from tests.support.browser import Window, opened
from tests.support.pages import ATTACK, DIGITS, HOSTILE, KINDS, MILLION, one_input

SECONDS = 2.0
FIRST = ("digits", "prices")
"""What `make test` opens: pictures and rows; the other kinds are opened by `make test-long`."""
ALL = [pytest.param(kind, marks=() if kind in FIRST else pytest.mark.long) for kind in KINDS]

Write = Callable[..., Path]


@pytest.mark.parametrize("kind", ALL)
def test_every_part_of_every_kind_is_drawn(window: Window, written: Write, kind: str) -> None:
    made = KINDS[kind]
    with opened(window, written(made), at="#whole") as page:
        page.see_all()
        assert page.count("#inputs .card") > 0
        assert page.count("#inputs .list-row") == made.explained
        assert page.count("#labels .list-row") == made.labels
        assert page.count("#whole .panel:empty") == 0
        assert page.count("#whole .panel") >= 6
        assert page.count("svg.drawing") >= 3
        assert page.page.evaluate("[...document.querySelectorAll('svg.drawing')].every((one) => one.clientWidth > 100)")


@pytest.mark.parametrize(
    "kind", ["digits", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("names", "prices"))]
)
def test_a_page_of_one_input_has_no_list_of_inputs(window: Window, written: Write, kind: str) -> None:
    with opened(window, written(KINDS[kind], single=True)) as page:
        assert page.count(".list-row") == 0
        assert "drawn.png" in page.text("h1")
        assert page.count(".column.helps .card") == 10
        assert "only this input" not in page.text(".columns")
        page.page.locator(".folded summary", has_text="by layer").first.click()
        assert page.count(".column.helps .card:first-child .layer") == 3


def test_what_belongs_to_no_token_is_told_and_one_layer_has_no_bars(window: Window, tmp_path: Path) -> None:
    made = one_input(KINDS["names"])
    tokens = {"tokens": [[["Ba", 0.5], ["kov", -0.25]]] * 10, "rest": [0.75] * 10}
    for name, more, told in (
        ("tokens", tokens, "not by token +0.75"),
        ("no tokens", {"rest": [0.75] * 10}, "not by token +0.75"),
        ("one layer", {"by_layer": {"names": ["head"], "shares": [[1.5]] * 10}}, "one layer: head"),
    ):
        for method in made["explanations"][0]["methods"].values():
            plain = {key: value for key, value in method["helps"].items() if key not in ("by_layer", *tokens)}
            method["helps"] = plain | more
        (tmp_path / f"{name}.html").write_text(document(made, title="made up"), encoding="utf-8")
        with opened(window, tmp_path / f"{name}.html") as page:
            assert told in page.text(".column.helps .card")
            assert page.count(".column.helps .layer") == 0


def test_hostile_texts_stay_texts(window: Window, written: Write) -> None:
    with opened(window, written(ATTACK)) as page:
        page.see_all()
        assert page.page.title() == "made up"
        assert page.count("main img[src='x'], main script") == 0
        assert page.text("#inputs .input-text").startswith(HOSTILE.replace("\u2028", "").split(" & ")[0])


@pytest.mark.long
def test_a_million_training_rows_open_in_two_seconds(window: Window, written: Write) -> None:
    path = written(MILLION)
    # The other process of the tests may hold the machine for a moment: the quickest of three counts.
    assert any(_seconds(window, path) < SECONDS for _ in range(3))


def _seconds(window: Window, path: Path) -> float:
    context = window.browser.new_context()
    page = context.new_page()
    begun = perf_counter()
    page.goto(path.as_uri() + "#inputs")
    page.locator(".column.helps .card").first.wait_for()
    page.locator(".list-row").nth(MILLION.explained - 1).wait_for(state="attached")
    seconds = perf_counter() - begun
    context.close()
    return seconds


def test_sections_are_drawn_when_they_are_seen(window: Window, written: Write) -> None:
    with opened(window, written(DIGITS)) as page:
        assert page.count("#labels .list-row") == 0
        page.page.locator("nav a", has_text="Labels").click()
        page.page.locator("#labels .list-row").first.wait_for()
        assert page.text("nav a[aria-current]") == "Labels"
        assert page.page.evaluate("Math.abs(document.querySelector('#labels').getBoundingClientRect().top) < 120")


def test_pages_are_printed_in_light_with_all_columns(window: Window, written: Write) -> None:
    with opened(window, written(DIGITS), theme="dark", width=800) as page:
        assert page.page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.page.emulate_media(media="print")
        assert page.page.evaluate("document.documentElement.dataset.theme") == "light"
        assert page.page.locator(".column.harms .card").first.is_visible()
        assert page.count("#labels .list-row") == DIGITS.labels
        assert not page.page.locator(".top").is_visible()

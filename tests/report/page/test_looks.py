"""How the page looks: no sideways scroll, both themes, nothing that axe-core calls serious, screenshots to look at."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.support.browser import Theme, Watched, Window, opened, screenshots
from tests.support.page_parts import Made
from tests.support.pages import ATTACK, DIGITS, KINDS, NAMES, PRICES

Write = Callable[..., Path]
DESKTOP, PHONE, NARROW_PHONE = 1440, 390, 360
WIDTHS = {"desktop": DESKTOP, "phone": PHONE}
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
AXE = {"preload": False, "resultTypes": ["violations"], "runOnly": RULES}
BAD = ("serious", "critical")
# Every part in few elements: what axe-core takes grows with their number.
SMALL = replace(DIGITS, classes=("0", "1", "2"), explained=6, labels=4, train=60, ranks=4)
TEXTS = replace(NAMES, classes=("Dutch", "Greek"), explained=6, labels=4, train=60, ranks=4)
NUMBERS = replace(PRICES, explained=6, train=60, ranks=4)


def violations(page: Watched) -> list[tuple[str, str, list[Any]]]:
    """Return what axe-core finds of the two worst kinds, with its first places."""
    found = Axe().run(page.page, options=AXE).response["violations"]
    return [
        (v["impact"], v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in found if v["impact"] in BAD
    ]


@pytest.mark.parametrize(
    ("made", "width", "theme"),
    [
        (TEXTS, "phone", "dark"),
        *(
            pytest.param(*grid, marks=pytest.mark.long)
            for grid in product((SMALL, TEXTS, NUMBERS), WIDTHS, ("light", "dark"))
            if grid != (TEXTS, "phone", "dark")
        ),
    ],
)
def test_axe_finds_nothing_serious(window: Window, written: Write, made: Made, width: str, theme: Theme) -> None:
    with opened(window, written(made), width=WIDTHS[width], theme=theme, at="#whole") as page:
        page.see_all()
        assert violations(page) == []


@pytest.mark.parametrize("width", [pytest.param("desktop", marks=pytest.mark.long), "phone"])
def test_axe_finds_nothing_serious_in_drawer_and_dialog(window: Window, written: Write, width: str) -> None:
    with opened(window, written(SMALL), width=WIDTHS[width]) as page:
        page.page.keyboard.press("?")
        assert violations(page) == []
        page.page.keyboard.press("Escape")
        page.page.evaluate("location.hash = '#inputs'")
        page.page.locator(".column.helps .card-open").first.click()
        assert violations(page) == []


# The page at desktop width in light has nothing else that axe-core finds.
def test_axe_is_able_to_find_something(window: Window, written: Write) -> None:
    with opened(window, written(SMALL), at="#whole") as page:
        page.see_all()
        # Below the bar, which is not quite opaque, a picture would leave the contrast open.
        page.page.evaluate("scrollTo(0, 0)")
        page.page.evaluate("document.querySelector('nav a').style.color = '#cccccc'")
        page.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
        assert {rule for _, rule, _ in violations(page)} == {"color-contrast", "button-name"}


@pytest.mark.parametrize(
    "kind",
    ["digits", "attack", *(pytest.param(kind, marks=pytest.mark.long) for kind in KINDS if kind != "digits")],
)
def test_nothing_scrolls_sideways(window: Window, written: Write, kind: str) -> None:
    with opened(window, written({**KINDS, "attack": ATTACK}[kind]), width=NARROW_PHONE, at="#whole") as page:
        page.see_all()
        for width in (NARROW_PHONE, PHONE, 820, DESKTOP):
            page.page.set_viewport_size({"width": width, "height": 800})
            assert page.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_follows_the_system_until_it_is_chosen(window: Window, written: Write) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(window, written(DIGITS), theme="dark") as page:
        assert page.page.evaluate(paper) == "rgb(19, 20, 22)"
        page.page.emulate_media(color_scheme="light")
        page.page.locator("html[data-theme=light]").wait_for(state="attached")
        assert page.page.evaluate(paper) == "rgb(255, 255, 255)"
        page.page.get_by_role("button", name="Light or dark").click()
        assert page.page.evaluate(paper) == "rgb(19, 20, 22)"


def test_grey_pictures_are_ink_on_paper_and_colours_stay(window: Window, written: Write) -> None:
    invert = "getComputedStyle(document.querySelector('.input-picture .tile')).filter"
    for kind, light in (("digits", "invert(1)"), ("photos", "none")):
        with opened(window, written(KINDS[kind]), at="#inputs") as page:
            page.page.locator(".input-picture .tile").wait_for()
            assert page.page.evaluate(invert) == light


def test_pictures_are_whole_multiples_of_their_own_size(window: Window, written: Write) -> None:
    for width in WIDTHS.values():
        with opened(window, written(SMALL), width=width, at="#whole") as page:
            page.see_all()
            sizes = page.page.eval_on_selector_all(".tile", "(all) => all.map((tile) => tile.offsetWidth)")
            assert {size % SMALL.side for size in sizes if size} == {0}


def test_the_story_s_pictures_leave_the_bars_their_room(window: Window, written: Write) -> None:
    for kind in ("digits", "photos"):
        with opened(window, written(KINDS[kind]), width=1200) as page:
            page.page.locator(".story-table").wait_for()
            table, bars = (page.page.locator(each).bounding_box() for each in (".story-table", ".story-bars"))
            assert table is not None
            assert bars is not None
            assert table["x"] + table["width"] <= bars["x"]
            assert bars["x"] + bars["width"] <= 1200


def test_one_column_at_a_time_on_a_phone(window: Window, written: Write) -> None:
    with opened(window, written(DIGITS), width=PHONE, at="#inputs") as page:
        harms = page.page.locator(".column.harms")
        assert not harms.is_visible()
        page.page.locator(".column-choice button", has_text="Harms").click()
        assert harms.is_visible()
        assert not page.page.locator(".column.helps").is_visible()
        page.page.keyboard.press("ArrowRight")
        assert page.page.locator(".column.harms").is_visible()


@pytest.mark.long
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["digits", "names", "prices"])
def test_screenshots_are_kept_to_look_at(window: Window, written: Write, kind: str, width: str) -> None:
    with opened(window, written(KINDS[kind]), width=WIDTHS[width], at="#whole") as page:
        page.see_all()
        page.page.evaluate("scrollTo(0, 0)")
        kept = screenshots() / f"{kind}-{width}.png"
        page.page.screenshot(path=kept, full_page=True)
        assert kept.stat().st_size > 20_000

"""How the page looks: no sideways scroll, both themes, nothing that axe-core calls serious, screenshots to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.support.browser import Watched, opened, screenshots
from tests.support.pages import ATTACK, DIGITS, KINDS

Write = Callable[..., Path]
DESKTOP, PHONE, NARROW_PHONE = 1440, 390, 360
WIDTHS = {"desktop": DESKTOP, "phone": PHONE}
BAD = ("serious", "critical")


def violations(page: Watched) -> list[tuple[str, str, list[Any]]]:
    """Return what axe-core finds of the two worst kinds, with its first places."""
    found = Axe().run(page.page, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    return [
        (v["impact"], v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in found if v["impact"] in BAD
    ]


@pytest.mark.parametrize(
    ("kind", "width", "theme"),
    [
        ("digits", "desktop", "light"),
        ("digits", "desktop", "dark"),
        ("digits", "phone", "light"),
        ("names", "phone", "dark"),
        ("prices", "desktop", "light"),
    ],
)
def test_axe_finds_nothing_serious(chromium: Browser, written: Write, kind: str, width: str, theme: str) -> None:
    with opened(chromium, written(KINDS[kind]), width=WIDTHS[width], theme=theme, at="#whole") as page:
        page.see_all()
        assert violations(page) == []
        page.page.screenshot(path=screenshots() / f"{kind}-{width}-{theme}.png", full_page=True)


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_serious_in_drawer_and_dialog(chromium: Browser, written: Write, width: str) -> None:
    with opened(chromium, written(DIGITS), width=WIDTHS[width]) as page:
        page.page.keyboard.press("?")
        assert violations(page) == []
        page.page.keyboard.press("Escape")
        page.page.evaluate("location.hash = '#inputs'")
        page.page.locator(".column.helps .card-open").first.click()
        assert violations(page) == []
        page.page.screenshot(path=screenshots() / f"drawer-{width}.png")


def test_axe_is_able_to_find_something(chromium: Browser, written: Write) -> None:
    with opened(chromium, written(DIGITS)) as page:
        page.page.evaluate("document.querySelector('nav a').style.color = '#cccccc'")
        page.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
        assert {rule for _, rule, _ in violations(page)} == {"color-contrast", "button-name"}


@pytest.mark.parametrize("kind", [*KINDS, "attack"])
def test_nothing_scrolls_sideways(chromium: Browser, written: Write, kind: str) -> None:
    with opened(chromium, written({**KINDS, "attack": ATTACK}[kind]), width=NARROW_PHONE, at="#whole") as page:
        page.see_all()
        for width in (NARROW_PHONE, PHONE, 820, DESKTOP):
            page.page.set_viewport_size({"width": width, "height": 800})
            assert page.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_follows_the_system_until_it_is_chosen(chromium: Browser, written: Write) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(chromium, written(DIGITS), theme="dark") as page:
        assert page.page.evaluate(paper) == "rgb(19, 20, 22)"
        page.page.emulate_media(color_scheme="light")
        page.page.wait_for_function("document.documentElement.dataset.theme === 'light'")
        assert page.page.evaluate(paper) == "rgb(255, 255, 255)"
        page.page.get_by_role("button", name="Light or dark").click()
        assert page.page.evaluate(paper) == "rgb(19, 20, 22)"


def test_grey_pictures_are_ink_on_paper_and_colours_stay(chromium: Browser, written: Write) -> None:
    invert = "getComputedStyle(document.querySelector('.input-picture .tile')).filter"
    for kind, light in (("digits", "invert(1)"), ("photos", "none")):
        with opened(chromium, written(KINDS[kind]), at="#inputs") as page:
            page.page.locator(".input-picture .tile").wait_for()
            assert page.page.evaluate(invert) == light


def test_pictures_are_whole_multiples_of_their_own_size(chromium: Browser, written: Write) -> None:
    for width in WIDTHS.values():
        with opened(chromium, written(DIGITS), width=width, at="#whole") as page:
            page.see_all()
            sizes = page.page.eval_on_selector_all(".tile", "(all) => all.map((tile) => tile.offsetWidth)")
            assert {size % DIGITS.side for size in sizes if size} == {0}


def test_one_column_at_a_time_on_a_phone(chromium: Browser, written: Write) -> None:
    with opened(chromium, written(DIGITS), width=PHONE, at="#inputs") as page:
        harms = page.page.locator(".column.harms")
        assert not harms.is_visible()
        page.page.locator(".column-choice button", has_text="Harms").click()
        assert harms.is_visible()
        assert not page.page.locator(".column.helps").is_visible()
        page.page.keyboard.press("ArrowRight")
        assert page.page.locator(".column.harms").is_visible()

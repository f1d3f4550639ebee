"""The page of a comparison in Chromium: it asks for nothing, has no error, and its parts answer."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from relatif.pipeline.report.comparing import compare, open_compared
from relatif.pipeline.report.page.comparison import comparison_page
from tests.report.page.test_comparison import changed
from tests.support import kept_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SERIOUS = ("serious", "critical")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="expected chromium on PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three runs: a run, its copy with other lists, and its copy as it is."""
    folder = tmp_path_factory.mktemp("kept")
    out = kept_run.unpacked(folder)
    runs = [out, changed(out, folder / "other"), shutil.copytree(out, folder / "same")]
    opened = [open_compared(str(run)) for run in runs]
    page = folder / "comparison.html"
    page.write_text(comparison_page(opened, compare(opened)), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def opened(chromium: Browser, file: Path, width: int = 1440, scheme: str = "light") -> tuple[Page, list[str]]:
    """The page, and what it asked for or complained of, as it grows."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page, told = context.new_page(), []
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else told.append(request.url))
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(file.as_uri())
    return page, told


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_it_opens_without_request_error_or_serious_violation(
    chromium: Browser, file: Path, width: int, scheme: str
) -> None:
    page, told = opened(chromium, file, width, scheme)
    assert page.locator("html").get_attribute("data-theme") == scheme
    assert page.locator(".case").count() == 7
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    serious = [each["id"] for each in found.response["violations"] if each["impact"] in SERIOUS]
    assert serious == []
    assert told == []


def test_pair_and_method_are_chosen(chromium: Browser, file: Path) -> None:
    page, told = opened(chromium, file)
    assert "By \u2113-RelatIF the runs share 100%" in page.locator("h1").inner_text()
    assert page.locator(".case").first.get_attribute("aria-label") == "Input 3"
    # Two models that are the same say the same; a frame is around what both lists have.
    shown = page.locator(".case[aria-label='Input 0']")
    assert shown.locator(".found").count() == 16
    assert shown.locator(".found.both").count() == 2 * 6, "of ten, eight are shown of each end"
    page.get_by_role("button", name="nearest neighbour").click()
    assert page.locator(".case").count() == 0
    assert "the same for every input" in page.locator(".cases-body").inner_text()
    page.get_by_role("button", name="run and same").click()
    page.locator(".cases-head").get_by_role("button", name="IF", exact=True).click()
    assert page.locator(".case").count() == 0
    page.get_by_role("button", name="other and same").click()
    assert page.locator(".case").count() == 7
    page.get_by_role("button", name="Light or dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert told == []

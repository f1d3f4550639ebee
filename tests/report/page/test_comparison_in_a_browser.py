"""The page of a comparison in Chromium: it asks for nothing, complains of nothing, and its parts answer."""

import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from relatif.pipeline.report.comparing import compare, open_compared
from relatif.pipeline.report.page.comparison import comparison_page
from tests.report.page.test_comparison import changed
from tests.support import kept_run
from tests.support.browser import Theme, Window, opened, screenshots

SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three runs: a run, its copy with other lists, and its copy as it is."""
    folder = tmp_path_factory.mktemp("kept")
    out = kept_run.unpacked(folder)
    runs = [out, changed(out, folder / "other"), shutil.copytree(out, folder / "same")]
    read = [open_compared(str(run)) for run in runs]
    page = folder / "comparison.html"
    page.write_text(comparison_page(read, compare(read)), encoding="utf-8")
    return page


@pytest.mark.parametrize(("width", "theme"), [pytest.param(1440, "light", marks=pytest.mark.long), (390, "dark")])
def test_it_opens_without_request_error_or_serious_violation(
    window: Window, file: Path, width: int, theme: Theme
) -> None:
    with opened(window, file, width=width, theme=theme) as watched:
        watched.see_all()
        assert watched.page.locator("html").get_attribute("data-theme") == theme
        assert watched.count(".case") == 7
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(watched.page)
        assert [each["id"] for each in found.response["violations"] if each["impact"] in SERIOUS] == []
        watched.page.screenshot(path=screenshots() / f"comparison-{width}-{theme}.png", full_page=True)


def test_pair_and_method_are_chosen(window: Window, file: Path) -> None:
    with opened(window, file) as watched:
        page = watched.page
        assert "By \u2113-RelatIF the runs share 100%" in watched.text("h1")
        assert page.locator(".case").first.get_attribute("aria-label") == "Input 3"
        # Input 0 has the same ten examples in both lists, turned round: of each end eight are shown.
        shown = page.locator(".case[aria-label='Input 0']")
        assert shown.locator(".found").count() == 16
        assert shown.locator(".found.both").count() == 2 * 6
        page.get_by_role("button", name="nearest", exact=True).click()
        assert watched.count(".case") == 0
        assert "the same for every input" in watched.text(".cases-body")
        page.get_by_role("button", name="run and same").click()
        page.locator(".cases-head").get_by_role("button", name="IF", exact=True).click()
        assert watched.count(".case") == 0
        page.get_by_role("button", name="other and same").click()
        assert watched.count(".case") == 7
        page.get_by_role("button", name="Light or dark").click()
        assert page.locator("html").get_attribute("data-theme") == "dark"

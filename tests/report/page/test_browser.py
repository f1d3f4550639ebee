"""The browser of the page's tests: where there is none, this test alone tells so, and the others aren't collected."""

from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support import browser
from tests.support.browser import MISSING, NAMES, REQUIRED


def test_pages_are_opened_in_a_browser(chromium: Browser) -> None:
    assert chromium.is_connected()


@pytest.mark.parametrize("name", NAMES)
def test_each_name_of_it_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(browser.shutil, "which", {name: f"/usr/bin/{name}"}.get)
    assert browser.browser_path() == f"/usr/bin/{name}"


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_one_tests_are_skipped_or_fail(monkeypatch: pytest.MonkeyPatch, required: str, outcome: Any) -> None:
    monkeypatch.setattr(browser.shutil, "which", {}.get)
    monkeypatch.setenv(REQUIRED, required)
    with pytest.raises(outcome) as raised, browser.browser():
        pass
    assert str(raised.value) == MISSING

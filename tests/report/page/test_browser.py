"""The browser of the page's tests: where there is none, this test alone tells so, and the others aren't collected."""

import asyncio
from typing import Any

import pytest

from tests.support import browser
from tests.support.browser import MISSING, NAMES, REQUIRED


def test_a_browser_is_opened_and_no_event_loop_stays_behind() -> None:
    with browser.browser() as started:
        assert started.is_connected()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


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

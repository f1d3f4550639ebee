"""One browser for successive files of the page's tests, and the made-up pages as files."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from relatif.pipeline.report.page.document import document
from tests.support.browser import Window, browser, missing
from tests.support.page_parts import Made
from tests.support.pages import made_page, one_input

IN_A_BROWSER = [
    "test_opening.py",
    "test_inputs.py",
    "test_drawer.py",
    "test_labels.py",
    "test_looks.py",
    "test_panels_in_a_browser.py",
    "test_comparison_in_a_browser.py",
]
collect_ignore = IN_A_BROWSER if missing() else []
"""Without a browser one test says so, instead of a line for each."""


class Shared:
    """A browser that is started once for the files that follow one another."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._started: Browser | None = None

    def open(self) -> Browser:
        if self._started is None:
            self._started = self._held.enter_context(browser())
        return self._started

    def close(self) -> None:
        self._started = None
        self._held.close()


SHARED = pytest.StashKey[Shared]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Close the browser before another kind of test: its driver keeps an event loop running in this thread."""
    yield
    if SHARED in item.config.stash and (nextitem is None or nextitem.path.name not in IN_A_BROWSER):
        item.config.stash[SHARED].close()


@pytest.fixture(scope="module")
def chromium(pytestconfig: pytest.Config) -> Browser:
    return pytestconfig.stash.setdefault(SHARED, Shared()).open()


@pytest.fixture(scope="module")
def window(chromium: Browser) -> Iterator[Window]:
    made = Window.of(chromium)
    yield made
    made.page.context.close()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a made-up page, once for each description, and gives its path."""
    folder = tmp_path_factory.mktemp("pages")
    paths: dict[tuple[Made, bool], Path] = {}

    def write(made: Made, *, single: bool = False) -> Path:
        if (made, single) not in paths:
            path = folder / f"{len(paths)}.html"
            page = one_input(made) if single else made_page(made)
            path.write_text(document(page, title="made up"), encoding="utf-8")
            paths[made, single] = path
        return paths[made, single]

    return write

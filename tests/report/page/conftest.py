"""One browser for each file of the page's tests, and the made-up pages as files."""

from collections.abc import Callable, Iterator
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
    "test_comparison_in_a_browser.py",
]
collect_ignore = IN_A_BROWSER if missing() else []
"""Without a browser one test says so, instead of a line for each."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for one file of tests: as long as it is open, its driver keeps an event loop running in this thread."""
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def window(chromium: Browser) -> Window:
    return Window.of(chromium)


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

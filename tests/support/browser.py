"""Chromium for the tests of pages: found on the PATH, driven by Playwright, watched for requests and complaints."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "RELATIF_BROWSER_REQUIRED"
"""Set where a missing browser is a failure: continuous integration never skips these tests."""
SCREENSHOTS = "RELATIF_SCREENSHOTS"
"""The folder for screenshots, build/screenshots in the checkout where it isn't set."""

Theme = Literal["light", "dark"]

OWN_SCHEMES = ("file:", "data:", "blob:")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
MISSING = (
    f"expected one of {', '.join(NAMES)} on the PATH, found none: as root `make browser` installs Debian's, "
    "elsewhere `apt-get install chromium`, then run the tests again"
)


def browser_path() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def missing() -> bool:
    """Whether there is no browser, and none is required."""
    return browser_path() is None and not os.environ.get(REQUIRED)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start the browser that is on the PATH; without one the test is skipped, or fails where one is required."""
    if missing():
        pytest.skip(MISSING)
    path = browser_path() or pytest.fail(MISSING)
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=list(QUIET))
        yield started
        started.close()


def screenshots() -> Path:
    folder = Path(os.environ.get(SCREENSHOTS) or Path(__file__).resolve().parents[2] / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class Watched:
    """A page that is open, with every request that left it and everything that it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.set_default_timeout(5000)
        self.page.on("request", self._asked)
        self.page.on("console", self._logged)
        self.page.on("pageerror", self._failed)

    def stop(self) -> None:
        self.page.remove_listener("request", self._asked)
        self.page.remove_listener("console", self._logged)
        self.page.remove_listener("pageerror", self._failed)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(OWN_SCHEMES):
            self.requests.append(request.url)

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def see_all(self) -> None:
        """Scroll through the whole page, so that every part is drawn."""
        self.page.evaluate(
            "async () => { for (let y = 0; y < document.body.scrollHeight; y += 1200) {"
            " scrollTo(0, y); await new Promise((go) => requestAnimationFrame(() => setTimeout(go, 5))); } }"
        )


@dataclass(frozen=True)
class Window:
    """A browser with one page, in which the tests of a process open one file after the other."""

    browser: Browser
    page: Page

    @classmethod
    def of(cls, started: Browser) -> "Window":
        context = started.new_context(reduced_motion="reduce", accept_downloads=True)
        return cls(started, context.new_page())

    def show(self, address: str) -> None:
        """Load an address anew, from its top: a reload is what costs least where the file is shown already."""
        here, wanted = self.page.url.partition("#")[0], address.partition("#")[0]
        if here != wanted:
            self.page.goto(address)
            return
        self.page.evaluate("history.scrollRestoration = 'manual'")
        self.page.goto(address)
        self.page.reload()


@contextmanager
def opened(
    window: Window, path: Path, *, width: int = 1440, height: int = 900, theme: Theme = "light", at: str = ""
) -> Iterator[Watched]:
    """Open a file in the window; at its end nothing has been asked of a network or complained of; nothing is kept."""
    page = window.page
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=theme, media="screen")
    watched = Watched(page)
    watched.listen()
    window.show(path.as_uri() + at)
    yield watched
    page.evaluate("localStorage.clear()")
    watched.stop()
    assert watched.requests == []
    assert watched.complaints == []

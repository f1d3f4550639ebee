"""Explanations as HTML: self-contained, escaped, without script; read back by a parser, and looked at by a browser."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relatif.pipeline.showing.fragment import CELLS, documents, html_of
from tests.support.shown import MEANING, TRICKY, of_pictures, of_rows, of_texts, picture

ALLOWED = {
    "style", "div", "dl", "dt", "dd", "ol", "li", "img", "mark", "span", "details", "summary",
}  # fmt: skip


class Read(HTMLParser):
    """What a parser finds: elements with their attributes, and the text outside the style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)


@pytest.mark.parametrize("shown", [of_pictures(), of_texts(), of_rows()])
def test_nothing_is_loaded_or_run_and_every_element_ends(shown: object) -> None:
    html = html_of(shown)  # type: ignore[arg-type]
    found = Read(html)
    assert found.open == []
    assert {tag for tag, _ in found.elements} <= ALLOWED
    for _, attributes in found.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert all((attributes.get(name) or "data:").startswith("data:") for name in ("src", "href"))
    assert not re.search(r"url\(|@import|https?:", html)


def test_what_users_wrote_is_text() -> None:
    for shown in (of_texts(), of_rows()):
        html, found = html_of(shown), Read(html_of(shown))
        assert TRICKY in "".join(found.words)
        assert "<script" not in html
    assert f"the text {TRICKY}" in Read(html_of(of_texts())).words


def test_pictures_keep_their_pixels() -> None:
    images = [attributes for tag, attributes in Read(html_of(of_pictures())).elements if tag == "img"]
    assert len(images) == 1 + 3 + 1 + 3
    data = base64.b64decode(str(images[0]["src"]).partition("base64,")[2])
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), picture(0))
    assert {(each["class"], each["width"], each["height"]) for each in images} == {("sharp", "77", "99")}
    assert images[1]["alt"] == "training example 100"


def test_what_is_told_of_an_example_stands_in_its_card() -> None:
    words = "".join(Read(html_of(of_pictures())).words)
    assert "1 · no. 100 (id-1)cat → lynxeffect +87 µnatcorrected +90 µnatscore 0.5probability 90%" in words
    assert "1 example that harms" in words
    assert MEANING in words
    assert "label" not in words, "a fact without a value is left out"


def test_tokens_are_marked_by_their_parts() -> None:
    marks = [attributes for tag, attributes in Read(html_of(of_texts())).elements if tag == "mark"]
    assert [(each["class"], each["title"]) for each in marks] == [("help", "+0.3"), ("harm", "-0.1"), ("help", "+0.02")]
    strengths = [float(str(each["style"]).rpartition(", ")[2].rstrip(")")) for each in marks]
    assert strengths == [0.55, 0.18, 0.04]
    assert "not by token +0.03" in "".join(Read(html_of(of_texts())).words)


def test_wide_rows_are_folded_and_layers_summed_up() -> None:
    words = "".join(Read(html_of(of_rows())).words)
    assert f"{11 - CELLS} more columns" in words
    assert "layers.0 +0.1" in words
    assert "others " in words


def test_several_share_one_style() -> None:
    html = documents([of_pictures(1), of_rows()])
    assert html.count("<style>") == 1
    assert html.count('class="relatif') == 2


def test_a_browser_shows_it_in_light_and_dark_without_overflow(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("no Chromium at /usr/bin/chromium: apt-get install chromium")
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8>{documents([of_pictures(8), of_texts(), of_rows()])}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        seen = {}
        for scheme in ("light", "dark"):
            opened = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
            requests: list[str] = []
            opened.on("request", lambda request, requests=requests: requests.append(request.url))
            opened.goto(page.as_uri())
            assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
            assert opened.evaluate("document.documentElement.scrollWidth") <= 390
            seen[scheme] = opened.evaluate(
                "(() => { const s = getComputedStyle(document.querySelector('.relatif'));"
                " return [s.color, s.backgroundColor]; })()"
            )
        browser.close()
    assert seen["light"] == ["rgb(23, 24, 26)", "rgb(255, 255, 255)"]
    assert seen["dark"] == ["rgb(237, 237, 235)", "rgb(19, 20, 22)"]

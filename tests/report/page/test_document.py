"""The page as one file: what stands in it is escaped, what runs in it is named by its hash, nothing else is allowed."""

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

import pytest

from relatif.pipeline.report.page.document import REPORT, SHARED, Template, document
from tests.support.pages import ATTACK, DIGITS, HOSTILE, KINDS, made_page

ASSETS = resources.files("relatif.pipeline.report.page") / "assets"
MAX_FILE_LINES = 299
MAX_FUNCTION_LINES = 50
MIB = 2**20


def held(html: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", html, re.DOTALL)


def data_in(html: str) -> Any:
    return json.loads(held(html, "script")[0])


def policy_of(html: str) -> dict[str, str]:
    content = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert content is not None
    return dict(part.strip().split(" ", 1) for part in content.group(1).split(";"))


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("made", [DIGITS, ATTACK])
def test_the_data_come_back_as_they_were(made: Any) -> None:
    page = made_page(made)
    assert data_in(document(page, title="t")) == page


def test_only_the_page_s_own_script_and_style_are_allowed() -> None:
    html = document({"run": {}}, title="t")
    policy = policy_of(html)
    _, script = held(html, "script")
    (style,) = held(html, "style")
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == sha256(script)
    assert policy["style-src"] == sha256(style)
    assert policy["img-src"] == "data:"
    assert not re.search(r"""\b(?:src|href)=["'](?!data:)""", html)
    assert "url(http" not in style
    assert "@import" not in style


def test_nothing_in_the_data_or_the_title_is_read_as_html() -> None:
    html = document(made_page(ATTACK), title=HOSTILE)
    assert HOSTILE in made_page(ATTACK)["run"]["classes"]
    assert len(re.findall("</script>", html)) == 2
    assert "<img" not in html
    assert "<!--" not in html
    assert held(html, "title") == [
        HOSTILE.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&quot;")
        .replace("'", "&#x27;")
    ]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_know_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        document({"loss": [number]}, title="t")


def test_the_page_itself_is_small() -> None:
    assert len(document({}, title="t").encode()) < MIB / 4


def test_a_page_of_its_own_is_joined_from_shared_files() -> None:
    own = Template(scripts=SHARED.scripts, styles=SHARED.styles)
    script = held(document({"pairs": []}, title="t", template=own), "script")[1]
    assert "function el(" in script
    assert "function inputsSection(" not in script


def test_every_asset_is_part_of_the_report_or_of_another_page() -> None:
    names = {path.name for path in ASSETS.iterdir()}
    assert {*REPORT.scripts, *REPORT.styles} <= names
    assert {name for name in names if not name.startswith("compar")} == {*REPORT.scripts, *REPORT.styles}


@pytest.mark.parametrize("name", [*REPORT.scripts, *REPORT.styles])
def test_assets_are_small_and_write_no_html(name: str) -> None:
    text = (ASSETS / name).read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= MAX_FILE_LINES
    assert max(map(len, lines)) <= 300
    for written in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttp"):
        assert written not in text


@pytest.mark.parametrize("name", REPORT.scripts)
def test_functions_are_short(name: str) -> None:
    assert long_functions((ASSETS / name).read_text(encoding="utf-8")) == []


def test_a_long_function_is_found() -> None:
    assert long_functions("function long() {\n" + "  go();\n" * 60 + "}\n") == ["long"]


def long_functions(text: str) -> list[str]:
    found = re.finditer(r"^(?:async )?function (\w+)\(.*?^}", text, re.MULTILINE | re.DOTALL)
    return [match.group(1) for match in found if match.group(0).count("\n") >= MAX_FUNCTION_LINES]


@pytest.mark.parametrize("kind", KINDS)
def test_made_up_pages_are_the_same_each_time(kind: str) -> None:
    assert made_page(KINDS[kind]) == made_page(KINDS[kind])

"""Every relative link in the project's Markdown leads to a file that is there, and every anchor to a heading."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^ *```.*?^ *```[^\n]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`+[^`\n]*`+")
LINK = re.compile(r"!?\[(?:[^][]|\[[^][]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
REFERENCE = re.compile(r"^ *\[[^]]+\]: +<?(\S+?)>?(?: .*)?$", re.MULTILINE)
HTML = re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"']+)["']""")
OUTSIDE = re.compile(r"^(?:[a-z][a-z+.-]*:|//)", re.IGNORECASE)


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    found = [ROOT / name for name in names if name] or [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in found if path.is_file())


def prose(text: str) -> str:
    """The text without blocks of code."""
    return FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Where the links of a Markdown text lead that are no addresses of the network."""
    # A link may stand around code, but code is no link.
    whole = prose(text)
    outside_code = CODE.sub(lambda code: "x" * len(code[0]), whole)
    found = [*LINK.findall(outside_code), *REFERENCE.findall(outside_code), *HTML.findall(outside_code)]
    return [target for target in found if not OUTSIDE.match(target)]


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown text's headings, as GitHub makes them, and those that it sets itself."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(text), re.MULTILINE):
        words = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        base = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        name, number = base, 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found | set(re.findall(r"""<a +(?:id|name)=["']([^"']+)["']""", text))


def faults(document: Path) -> list[str]:
    """What is wrong with the links of a document."""
    text, told = document.read_text(encoding="utf-8"), []
    for target in links(text):
        path, _, anchor = target.partition("#")
        other = document if not path else ROOT / path[1:] if path.startswith("/") else document.parent / path
        if not other.exists():
            told.append(f"{target}: no such file")
        elif anchor and other.suffix == ".md" and anchor not in anchors(other.read_text(encoding="utf-8")):
            told.append(f"{target}: no such heading")
    return told


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    assert faults(document) == []


def test_the_main_documents_are_among_them() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in documents()}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/tables.md", "docs/own_task.md"} <= names
    assert len(links((ROOT / "README.md").read_text(encoding="utf-8"))) > 5


DOCUMENT = """
# A `train_index` of *mine*: what's new?

## Twice
## Twice

[good](other.md#there) and [`code`](other.md) and ![picture](gone.png "title") and [here](#twice-1) and [no](#thrice)
[net](https://example.org/gone) and `[code](gone.md)` and <img src="gone.svg"> and [ref]

[ref]: gone/folder

```md
[in a block](gone.md)
```
"""


def test_what_is_broken_is_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text(DOCUMENT)
    (tmp_path / "other.md").write_text("# Here\n## There\n")
    assert faults(document) == [
        "gone.png: no such file",
        "#thrice: no such heading",
        "gone/folder: no such file",
        "gone.svg: no such file",
    ]
    (tmp_path / "other.md").write_text("```\n# There\n```\n")
    assert "other.md#there: no such heading" in faults(document)


def test_headings_become_anchors() -> None:
    assert anchors(DOCUMENT) == {"a-train_index-of-mine-whats-new", "twice", "twice-1"}

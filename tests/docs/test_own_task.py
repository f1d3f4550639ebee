"""docs/own_task.md: its commands, word for word, in an empty folder, with the project installed from its clone."""

import re
import stat
import sys
import time
from pathlib import Path

import pytest

from tests.support.checkouts import copy_checkout, environment_with
from tests.support.processes import sandbox
from tests.support.runs import ROOT, tables

GUIDE = (ROOT / "docs/own_task.md").read_text(encoding="utf-8")

STEP = re.compile(r"^(?:<!-- write: (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

MINUTES = 10

PIP = """#!/bin/sh
# As pip, but offline: dependencies are those of the environment that runs the tests.
command=$1; shift
PYTHONPATH={tools} exec {base} -m pip --python {python} "$command" --quiet --no-deps --no-build-isolation "$@"
"""


def steps() -> list[tuple[str, str, str]]:
    """Return the files to write and the commands, in order: a file's name or nothing, the language, the text."""
    return STEP.findall(GUIDE)


def test_the_guide_has_commands_and_writes_its_settings() -> None:
    assert [name for name, _, _ in steps() if name] == ["explain.toml"]
    commands = [text for name, language, text in steps() if language == "sh"]
    assert commands[0] == "pip install ~/relatif\n"
    assert any("relatif check --config" in text for text in commands)
    assert any("relatif run --config" in text for text in commands)
    assert all(name or language == "sh" for name, language, _ in steps()), "what is shown is also tried"


@pytest.mark.long
@pytest.mark.timeout(60 * MINUTES)
def test_the_guide_runs_word_for_word_in_an_empty_folder(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "empty"
    copy_checkout(home / "relatif")
    folder.mkdir()
    python = environment_with(tmp_path / "venv")
    pip = python.parent / "pip"
    pip.write_text(PIP.format(base=sys.executable, python=python, tools=tmp_path / "venv-tools"))
    pip.chmod(pip.stat().st_mode | stat.S_IXUSR)
    path = f"{python.parent}:/usr/bin:/bin"
    began, printed = time.monotonic(), []

    with sandbox() as machine:
        for name, language, text in steps():
            if name:
                (folder / name).write_text(text)
            elif language == "sh":
                command = ("env", "-C", str(folder), "bash", "-euc", text)
                ended = machine.run(*command, timeout=240, HOME=str(home), PATH=path, PYTHONPATH="")
                assert ended.returncode == 0, (text, ended.stdout, ended.stderr)
                printed.append(ended.stdout + ended.stderr)

    assert time.monotonic() - began < 60 * MINUTES
    whole = "".join(printed)
    for told in (
        "prefix 'module.' taken off its names",
        "accuracy ",
        "nothing was trained",
        "is explained by l-RelatIF by",
        "report/index.html",
        "test input 0",
        "rows of explanations: ",
    ):
        assert told in whole
    assert "train: was finished earlier" in printed[-1]
    assert "score.test_limit: was None, is now 10: taken into" in printed[-1]
    assert tables(folder / "runs/first")["test_examples"].num_rows == 10

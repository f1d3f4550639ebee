"""The settings as text: every one with its default and a meaning, in the help of the jobs that take them."""

import json

import pytest

from relatif.jobs import evaluate, factors, leave_one_out, run, score, statistics, train
from relatif.jobs._settings import WIDTH, settings, settings_help, settings_table
from relatif.schemas.config import RunConfig, flatten

JOBS = {
    "run": run,
    "train": train,
    "factors": factors,
    "score": score,
    "statistics": statistics,
    "evaluate": evaluate,
    "leave_one_out": leave_one_out,
}


def test_every_setting_is_there_once_with_its_default() -> None:
    values = flatten(RunConfig.model_validate({"task": "t", "data": {"source": "s"}}))
    expected = {name: json.dumps(value) for name, value in values.items()} | {"task": None, "data.source": None}
    assert [setting.name for setting in settings()] == list(expected)
    assert {setting.name: setting.default for setting in settings()} == expected


def test_every_setting_has_a_meaning() -> None:
    assert [setting.name for setting in settings() if len(setting.meaning) < 10] == []
    # A sentence's mark is that of the table's neighbours: none.
    assert [setting.name for setting in settings() if setting.meaning.endswith(".")] == []


def test_a_row_of_the_table_has_three_cells() -> None:
    rows = settings_table().splitlines()
    assert len(rows) == 2 + len(settings())
    assert {len(row.replace(r"\|", "").split("|")) for row in rows} == {5}
    assert r"| `train.weight_decay` | `0.0001` | adds `weight_decay / 2 * \|\|theta\|\|^2` to the mean loss |" in rows
    assert rows[2].startswith("| `task` | required | a built-in task (`mnist_logistic`, ")


def test_the_help_fits_a_terminal_and_tells_what_is_required() -> None:
    lines = settings_help().splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "`" not in settings_help()
    place = lines.index("  score.top_k = 20")
    assert lines[place + 1] == "      how many examples are kept for each test input and method"
    assert [line.strip() for line in lines if "(required)" in line] == ["task (required)", "data.source (required)"]


@pytest.mark.parametrize("name", JOBS)
def test_the_help_of_a_job_lists_every_setting(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        JOBS[name].main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: relatif {name} ")
    assert settings_help() in printed

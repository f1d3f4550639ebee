"""The command that writes a run's tables as files: what it writes, what it refuses, and that Ray is not needed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from relatif.jobs.export import main
from relatif.schemas.exports import EXPLANATIONS
from tests.support.runs import ROOT
from tests.support.written_texts import TRAIN_TEXTS, top_k_rows, write_text_run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_run(tmp_path_factory.mktemp("texts"))


def test_explanations_are_written_as_told(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "new/e.jsonl"
    words = ["--run", str(out), "--table", "explanations", "--to", str(to), "--with-text"]
    assert main([*words, "--method", "l_relatif", "--method", "influence", "--rank", "1"]) == 0
    assert capsys.readouterr().out == f"6 rows of explanations: {to}\n"
    found = [json.loads(line) for line in to.read_text().splitlines()]
    first = [row for row in top_k_rows() if row["rank"] == 1 and row["method"] in ("influence", "l_relatif")]
    assert [(row["train_id"], row["train_text"]) for row in found] == [
        (row["train_id"], TRAIN_TEXTS[row["train_index"]]) for row in first
    ]


def test_a_url_is_written_to(out: Path) -> None:
    import fsspec

    assert main(["--run", str(out), "--table", "explanations", "--to", "memory://exports/e.parquet"]) == 0
    with fsspec.open("memory://exports/e.parquet") as file:
        assert pq.read_table(file).schema.names == EXPLANATIONS.schema.names


def test_a_plain_table_needs_no_data(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = shutil.copytree(out.parent, tmp_path / "moved") / "out"
    record = moved / "run.json"
    record.write_text(record.read_text().replace(str(out.parent / "data"), str(tmp_path / "gone")))
    words = ["--run", str(moved), "--table", "top_k", "--to", str(tmp_path / "t.parquet")]
    assert main(words) == 1
    assert "error: expected a prepared data set" in capsys.readouterr().err
    assert main([*words, "--plain"]) == 0
    assert pq.read_table(tmp_path / "t.parquet") == pq.read_table(moved / "tables/top_k")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "{tmp}/e.txt"], "expected a file whose name ends in .csv, .jsonl, .parquet, found 'e.txt'"),
        (["--to", "{out}/tables/top_k/e.parquet"], "expected --to outside of the run's own files, found"),
        (["--to", "{out}/data/e.csv"], "expected --to outside of the run's own files, found"),
        (["--to", "{tmp}/e.csv", "--plain"], "expected --plain for a table of the run as it is, found it with --table"),
        (["--to", "{tmp}/e.csv", "--run", "{tmp}"], "expected a run in "),
        (["--to", "{tmp}/e.csv", "--run", "{tmp}", "--plain", "--table", "top_k"], "expected a run in "),
        (["--to", "{tmp}/e.csv", "--plain", "--table", "top_k", "--with-text"], "found it with --with-text"),
    ],
)
def test_what_is_refused_is_told_in_one_line_and_leaves_nothing(
    out: Path, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(out.rglob("*"))
    given = [word.format(tmp=tmp_path, out=out) for word in words]
    assert main(["--run", str(out), "--table", "explanations", *given]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: expected ")
    assert told in line
    assert sorted(out.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_no_ray_is_loaded(out: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from relatif.jobs.export import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 'ray' in sys.modules)"
    )
    words = ["--run", str(out), "--table", "explanations", "--to", str(tmp_path / "e.csv")]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""The page of a finished run: made once, proven, made again for what it depends on, small enough, or refused."""

import shutil
import tarfile
from pathlib import Path

import pytest

from relatif.jobs import report as job
from relatif.pipeline.report.page import making
from relatif.pipeline.report.page.fitting import fitted_page
from relatif.pipeline.report.page.making import make_report
from relatif.pipeline.report.page.sources import source_of
from relatif.pipeline.runs.opening import open_finished
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.claims import claimed
from relatif.schemas import run_directory
from relatif.schemas.errors import ClaimError, MissingStageError
from tests.support.finished import MadeUp, finished_run
from tests.support.page_inputs import write_kind

EARLY = Path(__file__).parents[2] / "runs/early_run.tar.xz"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return finished_run(tmp_path / "out", write_kind(tmp_path / "data", "text"), MadeUp())


def page(run: Run) -> Path:
    return Path(run.store.url) / run_directory.REPORT


def test_a_page_is_made_once_and_again_where_what_it_shows_has_changed(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_report(run)
    assert (first.address, first.bytes) == (str(page(run)), page(run).stat().st_size)
    written = page(run).read_bytes()
    assert b"<script>alert(1)</script>" not in written

    assert make_report(run) == first
    assert "report: was finished earlier" in capsys.readouterr().err
    for change in ("damage", "picture", "code"):
        if change == "damage":
            page(run).write_bytes(written[:-1])
        elif change == "picture":
            run.store.publish_bytes(run_directory.PLANE, b"a picture")
        else:
            monkeypatch.setattr(making, "_code", lambda: "another")
        make_report(run)
        assert "report: finished" in capsys.readouterr().err, change
        assert len(page(run).read_bytes()) >= len(written)


def test_a_run_that_is_not_finished_or_is_written_to_has_none(run: Run) -> None:
    with claimed(run.store), pytest.raises(ClaimError, match="expected"):
        make_report(run)
    Path(run.store.url, "work/statistics.json").unlink()
    with pytest.raises(MissingStageError, match=r"found no work/statistics.json"):
        make_report(run)
    assert not page(run).exists()


def test_the_job_needs_nothing_but_the_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["--out", run.store.url]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"report: {page(run)} (")
    with pytest.raises(SystemExit) as wrong:
        job.main(["--out", run.store.url, "--set", "score.top_k=3"])
    assert wrong.value.code == 2
    assert job.main(["--out", f"{run.store.url}/nowhere"]) == 1
    assert "found no run.json" in capsys.readouterr().err


def test_a_run_of_an_early_version_has_a_page(tmp_path: Path) -> None:
    with tarfile.open(EARLY) as kept:
        kept.extractall(tmp_path / "early", filter="data")
    record = tmp_path / "early/run.json"
    record.write_text(record.read_text().replace("{folder}", str(tmp_path / "early")))
    run = open_finished(str(tmp_path / "early"))
    assert make_report(run).bytes == page(run).stat().st_size
    data = fitted_page(source_of(run))
    assert (data["run"]["n"], data["run"]["m"], data["run"]["k"]) == (12, 9, 2)
    assert (data["train"]["id"], data["explanations"][0]["methods"]["influence"]["harms"]) == (None, None)
    shutil.rmtree(tmp_path / "early/report")

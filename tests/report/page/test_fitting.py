"""How many inputs a page holds where its size is limited."""

from pathlib import Path

from relatif.pipeline.report.page import fitting
from relatif.pipeline.report.page.fitting import fitted_page, size_of
from relatif.pipeline.report.page.sources import source_of
from tests.support.finished import MadeUp, finished_run
from tests.support.page_inputs import write_kind


def test_a_page_has_fewer_inputs_where_all_would_be_too_large(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "text"), MadeUp())
    source = source_of(run)
    whole = fitted_page(source)
    assert len(whole["explanations"]) == 24
    small = fitted_page(source, size_of(whole) * 3 // 4 + fitting.DOCUMENT_BYTES)
    assert size_of(small) <= size_of(whole) * 3 // 4
    assert 0 < len(small["explanations"]) < 24
    assert small["run"]["sample"].startswith(f"{len(small['explanations'])} of 24 inputs")
    assert "so that it stays small" in small["run"]["sample"]

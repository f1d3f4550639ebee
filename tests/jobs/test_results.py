"""What a job prints of a run of the paper's LSTM: no Table 1 of the paper, but its Table 3."""

from dataclasses import replace
from pathlib import Path

import pytest

from relatif.jobs import run as run_job
from relatif.jobs._command import Results
from relatif.jobs._results import print_results, table3_text
from relatif.pipeline.datasets.labels import Labelling
from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.report.paper import TABLE_3
from relatif.pipeline.report.table3 import explain
from relatif.pipeline.runs.run import Run
from tests.support.names import EXPLAINED, NAMES_CONFIG, SHORT, names_config, write_surnames
from tests.support.processes import job
from tests.support.runs import run_named

pytestmark = pytest.mark.usefixtures("local_ray")

PAPER = TABLE_3["LSTM"]
METHODS = tuple(PAPER.examples)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_surnames(tmp_path_factory.mktemp("data") / "names")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Run:
    return run_named(names_config(data), tmp_path_factory.mktemp("runs") / "run")


def with_config(run: Run, *overrides: str) -> Run:
    return replace(run, config=names_config(Path(run.config.data.source), *overrides))


def with_input(run: Run, **changes: object) -> Run:
    description = run.dataset.description
    changed = description.model_copy(update={"input": description.input.model_copy(update=changes)})
    return replace(run, dataset=PreparedDataset(changed))


def place_of_explained(run: Run) -> int:
    """The test input that is the paper's: the only one whose explanation carries its name."""
    found = [row for row in range(run.test_rows) if explain(run, row, methods=METHODS, k=1).test.text == EXPLAINED]
    assert len(found) == 1
    return found[0]


def test_table_3_is_printed_beside_the_papers(run: Run, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.store.describe()
    assert run_job.main(job("run", NAMES_CONFIG, Path(out), [f"data.source={data}", *SHORT])[3:]) == 0

    printed = capsys.readouterr().out
    assert "(paper 71.45%)" in printed
    table1, table3 = printed.split("Table 3: ")
    assert "  ours  " not in table1, "the paper has no Table 1 of names"
    lines = table3.splitlines()
    assert lines[0].startswith("training examples that explain why 'Vasyukov' is ")
    found = explain(run, place_of_explained(run), methods=METHODS, k=6)
    expected = [
        [ours.text, ours.label, ours.predicted_label, theirs.text, theirs.label, theirs.predicted_label]
        for method in METHODS
        for ours, theirs in zip(found.examples[method], PAPER.examples[method], strict=True)
    ]
    assert [line.split()[-6:] for line in lines[4 : 4 + len(expected)]] == expected
    assert lines[-2] == f"tables: {out}/tables"
    assert lines[-1].startswith(f"report: {out}/report/index.html (")


def test_a_limit_that_leaves_the_name_out_is_told(run: Run) -> None:
    place = place_of_explained(run)
    assert table3_text(with_config(run, f"score.test_limit={place + 1}"), PAPER).startswith("Table 3: training")
    assert table3_text(with_config(run, f"score.test_limit={place}"), PAPER) == (
        f"Table 3: 'Vasyukov', which the paper explains, is test input {place} (from 0) and left out by "
        f"score.test_limit = {place}"
    )


def test_data_without_the_name_or_without_texts_are_told(run: Run) -> None:
    told = "Table 3: '{}', which the paper explains, is not in the test set of surnames"
    assert table3_text(run, replace(PAPER, text="Vasyukova")) == told.format("Vasyukova")
    assert table3_text(with_input(run, text_column=None), PAPER) == told.format("Vasyukov")


def test_table_3_has_the_methods_that_were_scored(run: Run) -> None:
    text = table3_text(with_config(run, "score.methods=['influence', 'nearest_neighbour']"), PAPER)
    assert text.startswith("Table 3: training")
    assert "IF" in text
    assert "RelatIF" not in text
    assert table3_text(with_config(run, "score.methods=['nearest_neighbour']"), PAPER) == (
        "Table 3: score.methods has none of its methods, which are influence, theta_relatif, l_relatif"
    )


def test_nothing_of_the_papers_stands_beside_a_run_on_other_labels(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    relabelled = replace(run, dataset=replace(run.dataset, labelling=Labelling(flip_share=0.1)))
    for shown, has_paper in ((run, True), (relabelled, False)):
        print_results(Results(run.store, run.config.task, shown))
        assert ("paper" in capsys.readouterr().out) is has_paper

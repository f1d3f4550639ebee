"""What a job prints when it is done: the tables beside the paper's, and where they are."""

import pyarrow.compute as pc

from relatif.jobs._command import Results
from relatif.pipeline.datasets.texts import first_row_of_text
from relatif.pipeline.report.own_run import next_steps, own_run_text
from relatif.pipeline.report.paper import TABLE_3, TextExplanation
from relatif.pipeline.report.table3 import explain
from relatif.pipeline.report.table3_text import explanation_text
from relatif.pipeline.report.tables import overlap_text, table1_text
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.parquet import read_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.tables import INFLUENCE_SETS, OVERLAP, TEST_EXAMPLES


def print_results(results: Results) -> None:
    """Print what a finished run found: the paper's figures beside a run of the paper's, else what is the user's own."""
    tables = results.store.child(run_directory.TABLES)
    if results.paper is None and results.run is not None:
        accuracy = _accuracy(results, tables)
        print(own_run_text(results.run, tables))
        print()
        if accuracy is not None:
            print(f"test accuracy {accuracy:.2%}")
        print(next_steps(results.store.describe()))
        return
    _print_beside_the_paper(results, tables)
    print(f"tables: {tables.describe()}")


def _print_beside_the_paper(results: Results, tables: Store) -> None:
    """Print Table 1, the overlaps, and Table 3 where the paper has one of the task."""
    paper = results.paper
    accuracy = _accuracy(results, tables)
    print(table1_text(read_table(tables, INFLUENCE_SETS.name), test_accuracy=accuracy, paper=paper))
    print()
    print(overlap_text(read_table(tables, OVERLAP.name), paper=paper))
    print()
    explained = TABLE_3.get(paper or "")
    if explained is not None and results.run is not None:
        print(table3_text(results.run, explained))
        print()


def _accuracy(results: Results, tables: Store) -> float | None:
    """Return the share of test inputs whose label the model finds most probable, None where there are no classes."""
    if results.run is not None and results.run.task.likelihood.classes is None:
        return None
    tests = read_table(tables, TEST_EXAMPLES.name, ["label", "predicted_label"])
    right: float | None = pc.mean(pc.equal(tests["label"], tests["predicted_label"])).as_py()
    return right  # of those that have a label


def table3_text(run: Run, paper: TextExplanation) -> str:
    """Return the run's explanation of the paper's test input beside the paper's, or why there is none."""
    test_index = None
    if run.dataset.description.input.text_column is not None:
        test_index = first_row_of_text(run.data, run.dataset, "test", paper.text)
    if test_index is None:
        return f"Table 3: {paper.text!r}, which the paper explains, is not in the test set of {run.dataset.name}"
    if test_index >= run.test_rows:
        return (
            f"Table 3: {paper.text!r}, which the paper explains, is test input {test_index} (from 0) and left out by "
            f"score.test_limit = {run.test_rows}"
        )
    methods = tuple(method for method in paper.examples if method in run.config.score.methods)
    if not methods:
        return f"Table 3: score.methods has none of its methods, which are {', '.join(paper.examples)}"
    k = max(map(len, paper.examples.values()))
    explanation = explain(run, test_index, methods=methods, k=k)
    return explanation_text(explanation, title="Table 3", paper=paper.examples)

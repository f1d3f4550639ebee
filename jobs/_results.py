"""What a job prints when it is done: the tables beside the paper's, and where they are."""

from jobs._command import Results
from pipeline.report.paper import EXPERIMENT_OF_TASK
from pipeline.report.tables import overlap_text, table1_text
from pipeline.storage.parquet import read_table
from schemas import run_directory
from schemas.tables import INFLUENCE_SETS, OVERLAP, TEST_EXAMPLES


def print_results(results: Results) -> None:
    """Print Table 1, the overlaps, and the tables' address."""
    tables = results.store.child(run_directory.TABLES)
    tests = read_table(tables, TEST_EXAMPLES.name, ["label", "predicted_label"])
    right = sum(a == b for a, b in zip(tests["label"].to_pylist(), tests["predicted_label"].to_pylist(), strict=True))
    paper = EXPERIMENT_OF_TASK.get(results.task)
    print(table1_text(read_table(tables, INFLUENCE_SETS.name), test_accuracy=right / tests.num_rows, paper=paper))
    print()
    print(overlap_text(read_table(tables, OVERLAP.name), paper=paper))
    print()
    print(f"tables: {tables.describe()}")

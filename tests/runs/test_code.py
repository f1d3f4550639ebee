"""Which code a stage depends on: what it imports, found in the sources, of this project and of the user's folder."""

import shutil
from pathlib import Path
from unittest import mock

import pytest

import relatif
from relatif.pipeline.evaluations.leave_one_out import LEAVE_ONE_OUT_STAGE
from relatif.pipeline.runs.code import code_digest, task_code
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from tests.support.runs import ROOT

STAGES = ("train", "factors", "score", "statistics")

MODULES = {stage.name: [stage.work.__module__] for stage in (*WHOLE_RUN, LEAVE_ONE_OUT_STAGE)}
MODULES["factors"].append("relatif.pipeline.stages.kronecker_factors")
"""What each stage's digest begins with; factors load K-FAC's builder by its name."""


@pytest.fixture(scope="module")
def unchanged(copy: Path) -> dict[str, str]:
    """The digests of the stages before any change."""
    return digests(copy)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that may be changed."""
    folder = tmp_path_factory.mktemp("copy") / "clone"
    folder.mkdir()
    shutil.copy(ROOT / "__init__.py", folder)
    for name in ("relatif", "pipeline", "schemas"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    return folder


def digests(copy: Path) -> dict[str, str]:
    """Return the digests of the stages as they are in the copy, for a run of a built-in task."""
    with mock.patch.object(relatif, "__path__", [str(copy / "relatif")]):
        return {
            name: code_digest.__wrapped__(*modules, "relatif.pipeline.tasks.logistic")
            for name, modules in MODULES.items()
        }


def changed_by(before: dict[str, str], copy: Path, path: str, text: str) -> set[str]:
    """Return the stages whose digest a line at the end of a file changes."""
    file = copy / path
    source = file.read_text()
    try:
        file.write_text(source + text)
        after = digests(copy)
    finally:
        file.write_text(source)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("pipeline/influence/contraction.py", {"score", "statistics", "leave_one_out"}),
        ("pipeline/influence/statistics.py", {"statistics"}),
        ("pipeline/curvature/capture.py", {"factors", "score", "statistics", "leave_one_out"}),
        ("pipeline/curvature/kronecker.py", {"factors"}),
        ("pipeline/curvature/exact.py", set()),
        ("pipeline/tasks/logistic.py", {*STAGES, "leave_one_out"}),
        ("pipeline/datasets/shards.py", {*STAGES, "leave_one_out"}),
        ("pipeline/retraining/removals.py", {"leave_one_out"}),
        ("pipeline/console.py", set()),
        ("schemas/config.py", set()),
        ("schemas/curvature_config.py", set()),
        ("schemas/data_config.py", set()),
        ("schemas/model_config.py", set()),
        ("schemas/score_config.py", set()),
        ("schemas/section.py", set()),
        ("schemas/tables.py", set()),
        ("schemas/columns.py", set()),
        ("schemas/methods.py", set()),
        ("schemas/curvature.py", {"train", "factors", "score", "statistics", "leave_one_out"}),
        ("pipeline/tasks/convnet.py", set()),
    ],
)
def test_a_change_concerns_the_stages_that_run_it(
    unchanged: dict[str, str], copy: Path, path: str, stages: set[str]
) -> None:
    assert changed_by(unchanged, copy, path, "CHANGED = 1\n") == stages


def test_a_comment_in_a_report_costs_nobody_a_run(copy: Path) -> None:
    before = digests(copy)
    for file in (copy / "pipeline/report").glob("*.py"):
        file.write_text(file.read_text() + "# a comment\n")
    assert digests(copy) == before


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


OWN = {
    "my_task.py": "import torch, helpers\nfrom jobs.parts import layer\nfrom relatif import train_by_minibatches\n",
    "helpers.py": "from relatif.pipeline.tasks.names import one_hot\n",
    "jobs/__init__.py": "",
    "jobs/parts.py": "from . import inner\n\ndef layer():\n    from late import thing\n",
    "jobs/inner.py": "X = 1\n",
    "late.py": "thing = 1\n",
    "unrelated.py": "x = 1\n",
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, from which the job starts."""
    write(tmp_path, OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", OWN)
def test_a_users_modules_count_as_far_as_the_task_imports_them(own: Path, name: str) -> None:
    before = task_code("my_task")
    (own / name).write_text(OWN[name] + "# changed\n")
    assert (task_code("my_task").own == before.own) is (name == "unrelated.py")


def test_what_a_users_modules_import_of_this_project_counts_too(own: Path) -> None:
    assert set(task_code("my_task").modules) == {
        "relatif.pipeline.tasks.minibatch",
        "relatif.pipeline.tasks.names",
    }


@pytest.mark.parametrize("text", ["import relatif\nx = relatif.{}\n", "import relatif as r\ndef f(): r.{}()\n"])
def test_a_name_of_the_project_itself_counts_by_where_it_is_defined(own: Path, text: str) -> None:
    (own / "my_task.py").write_text(text.format("train_by_minibatches"))
    assert task_code("my_task").modules == ("relatif.pipeline.tasks.minibatch",)


def test_a_task_of_this_project_has_no_code_of_its_own() -> None:
    assert task_code("relatif.pipeline.tasks.logistic").own is None
    assert task_code("relatif.pipeline.tasks.logistic").modules == ("relatif.pipeline.tasks.logistic",)


def test_of_an_installed_package_only_its_own_modules_count() -> None:
    """Their folder holds everybody's: torch is no part of a user's code."""
    first = task_code("pyarrow.compute")
    assert first.own is not None
    assert first.modules == ()


def test_digests_are_short_and_differ_by_module() -> None:
    one, other = code_digest("relatif.schemas.digests"), code_digest("relatif.schemas.manifest")
    assert one != other
    assert len(one) == 12

"""One import name, ``relatif``: installed, in a clone by any name, beside it, and in a home as a cluster has it.

Every case is a process of its own, in an environment that imports nothing of the repository by itself.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from relatif.schemas import run_directory
from tests.support.checkouts import build_wheel, copy_checkout, environment_with, lay_cluster_files, site_packages
from tests.support.own_tasks import SMALL_RAY, TRAINING, user_folder
from tests.support.processes import job, sandbox
from tests.support.runs import ROOT

pytestmark = pytest.mark.long

OWN_PACKAGES = {
    "jobs/sizes.py": "CLASSES = 3\n",
    "pipeline/images.py": "def scaled(inputs):\n    return inputs.float() / 255\n",
    "schemas/shapes.py": "HIDDEN = 16\n",
}
"""Files of the user's own packages, called as those of this project are."""

CHANGES = {
    "from torch import": (
        "from jobs.sizes import CLASSES\nfrom pipeline.images import scaled\nfrom schemas.shapes import HIDDEN\n"
        "from torch import"
    ),
    "CLASSES = 3\n": "",
    "HIDDEN = 16\n": "",
    "return inputs.float() / 255": "return scaled(inputs)",
}
"""What makes docs/examples/my_mlp.py use them."""

HERE = """
import relatif.jobs.run, relatif.schemas.config
relatif.Task
print(relatif.jobs.run.__file__)
"""
"""Prints from which file the process itself imports a job."""

IN_A_WORKER = """
import inspect
from relatif.pipeline.cluster.session import session
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.tasks.task import load_task
from relatif.schemas.config import ClusterConfig
with session(ClusterConfig(local_cpus=1, object_store_bytes=100_000_000)):
    print(*gather([submit(inspect.getfile, load_task)]))
"""
"""Prints from which file a worker of Ray imports a module of the pipeline."""

LOADS = "from relatif.pipeline.tasks.task import load_task; load_task('old_names:make')"

NOT_IN_WORKERS = [("nothing", "influence", "inside"), ("editable", "relatif", "beside"), ("editable", "jobs", "beside")]
IN_WORKERS = [("nothing", "relatif", "inside"), ("nothing", "relatif", "beside"), ("editable", "influence", "beside")]
"""What the environment has, how the clone is called, and from where it is imported.

From beside a clone by another name it has to be installed, as ``make`` does.
"""


@dataclass(frozen=True)
class Installed:
    """A Python whose environment has the project, and the checkout that it was installed from."""

    python: Path
    checkout: Path


@dataclass(frozen=True)
class Clone:
    """A copy of the repository that is imported from the folder ``here``, by Ray's workers too where that is tried."""

    python: Path
    folder: Path
    here: Path
    in_workers: bool


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Installed]:
    """Environments with the wheel, with an editable installation, and with dependencies alone."""
    folder = tmp_path_factory.mktemp("installed")
    checkout = copy_checkout(folder / "a clone")
    wheel = build_wheel(checkout, folder)
    return {
        "wheel": Installed(environment_with(folder / "wheel", str(wheel)), checkout),
        "editable": Installed(environment_with(folder / "editable", "-e", str(checkout)), checkout),
        "nothing": Installed(environment_with(folder / "nothing"), checkout),
    }


def run_in(folder: Path, *command: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, where PYTHONPATH leads nowhere."""
    with sandbox() as machine:
        return machine.run("env", "-C", str(folder), *command, PYTHONPATH="", HOME=str(home or machine.folder))


def printed(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_only_relatif_is_added_to_the_import_path(installed: dict[str, Installed], kind: str, tmp_path: Path) -> None:
    """Of what lies in the repository ``jobs``, ``tests`` and the like are no names that an installation takes."""
    names = sorted({path.stem for path in ROOT.iterdir() if path.stem.isidentifier()} - {"relatif"})
    assert {"jobs", "pipeline", "schemas", "tests", "docs", "data"} <= set(names)
    code = (
        f"import json, sys, importlib.util as u; "
        f"print(json.dumps([[n for n in {names} if u.find_spec(n)], u.find_spec('relatif') is not None, sys.path]))"
    )
    taken, has_relatif, path = json.loads(printed(run_in(tmp_path, str(installed[kind].python), "-c", code)))
    _, without, plain_path = json.loads(printed(run_in(tmp_path, str(installed["nothing"].python), "-c", code)))
    assert (taken, has_relatif, without) == ([], True, False)
    folders = [site_packages(installed[name].python) for name in (kind, "nothing")]
    assert [entry for entry in path if entry != str(folders[0])] == [e for e in plain_path if e != str(folders[1])]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_installation_has_what_draws_the_report(installed: dict[str, Installed], kind: str, tmp_path: Path) -> None:
    code = "from relatif.pipeline.report.page.document import document; print(len(document({}, title='report')))"
    assert int(printed(run_in(tmp_path, str(installed[kind].python), "-c", code))) > 50_000


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_the_command_runs_a_task_beside_the_users_own_packages(
    installed: dict[str, Installed], kind: str, tmp_path: Path
) -> None:
    folder = user_folder(tmp_path / "user")
    for name, text in OWN_PACKAGES.items():
        (folder / name).parent.mkdir()
        (folder / name).with_name("__init__.py").touch()
        (folder / name).write_text(text)
    task = (folder / "my_mlp.py").read_text()
    for old, new in CHANGES.items():
        assert old in task
        task = task.replace(old, new, 1)
    (folder / "my_mlp.py").write_text(task)

    command = str(installed[kind].python.with_name("relatif"))
    words = job("run", Path("my_mlp.toml"), tmp_path / "out", SMALL_RAY)[3:]
    assert f"tables: {tmp_path}/out/tables" in printed(run_in(folder, command, "run", *words))
    assert pq.read_table(tmp_path / "out" / run_directory.table("train_examples")).num_rows == TRAINING


@pytest.fixture(params=IN_WORKERS + NOT_IN_WORKERS, ids=" ".join)
def clone(request: pytest.FixtureRequest, installed: dict[str, Installed], tmp_path: Path) -> Clone:
    kind, name, place = request.param
    folder = copy_checkout(tmp_path / "parent" / name)
    python = installed[kind].python if kind == "nothing" else environment_with(tmp_path / "venv", "-e", str(folder))
    return Clone(python, folder, folder if place == "inside" else folder.parent, request.param in IN_WORKERS)


def test_a_clone_is_imported_from_inside_and_from_its_parent_folder(clone: Clone) -> None:
    for code in (HERE, IN_A_WORKER) if clone.in_workers else (HERE,):
        found = Path(printed(run_in(clone.here, str(clone.python), "-c", code)))
        assert found.resolve().is_relative_to(clone.folder.resolve()), found
    for module in ("relatif.jobs", "jobs") if clone.here == clone.folder else ("relatif.jobs",):
        assert "usage: relatif JOB" in printed(run_in(clone.here, str(clone.python), "-m", module, "--help"))


def test_a_home_as_the_cluster_file_lays_it_runs_the_job(installed: dict[str, Installed], tmp_path: Path) -> None:
    """As ``ray submit`` does: the script is copied to the home directory and started there."""
    home = tmp_path / "home"
    project = lay_cluster_files(home)
    assert project == home / "relatif"
    shutil.copy(project / "jobs/run.py", home)
    python = str(installed["nothing"].python)
    assert Path(printed(run_in(home, python, "-c", IN_A_WORKER, home=home))).resolve().is_relative_to(project)
    assert Path(printed(run_in(project, python, "-c", HERE, home=home))).resolve().is_relative_to(project)

    settings = ("data.train_limit=1000", "score.test_limit=20", "train.tolerance=1e-2", *SMALL_RAY)
    words = job("run", Path("jobs/configs/mnist_logistic.toml"), Path("runs/mnist"), settings)[3:]
    assert "/home/runs/mnist/tables" in printed(run_in(home, python, "run.py", *words, home=home))
    assert pq.read_table(home / "runs/mnist/tables/train_examples").num_rows == 1000


@pytest.mark.parametrize("own", [(), OWN_PACKAGES], ids=["without packages of their own", "with some"])
@pytest.mark.parametrize(
    ("statement", "new"),
    [("import pipeline.tasks.task", "relatif.pipeline"), ("from schemas.errors import DataError", "relatif.schemas")],
)
def test_an_old_name_is_refused_with_the_new_one_where_the_wheel_is_installed(
    installed: dict[str, Installed], tmp_path: Path, own: Iterable[str], statement: str, new: str
) -> None:
    for name in own:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).with_name("__init__.py").touch()
    (tmp_path / "old_names.py").write_text(f"{statement}\n")
    ended = run_in(tmp_path, str(installed["wheel"].python), "-c", LOADS)
    assert ended.returncode == 1
    assert "ConfigurationError: expected to import module 'old_names' for task 'old_names:make'" in ended.stderr
    assert f"is imported as {new}" in ended.stderr


def test_a_job_whose_task_has_an_old_name_ends_with_one_line(installed: dict[str, Installed], tmp_path: Path) -> None:
    """In a clone, whose packages refuse to be imported by their old names."""
    clone, folder = copy_checkout(tmp_path / "clone"), user_folder(tmp_path / "user")
    task = (folder / "my_mlp.py").read_text()
    (clone / "my_mlp.py").write_text(task.replace("from relatif.pipeline", "from pipeline"))
    words = job("run", folder / "my_mlp.toml", tmp_path / "out", (f"data.source={folder}/my_images", *SMALL_RAY))[3:]
    ended = run_in(clone, str(installed["nothing"].python), "-m", "jobs.run", *words)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "found expected to import relatif.pipeline, found its old name 'pipeline'" in line
    assert "Traceback" not in ended.stderr

"""Ray's errors become one line of this project's, with Ray's text; errors of users' functions stay what they are."""

import sys
from pathlib import Path
from typing import Any

import pytest
from ray import exceptions as ray_errors
from ray.exceptions import RayError, RayTaskError

from relatif.pipeline.cluster.attempts import Limits
from relatif.pipeline.cluster.failures import LONGEST_TEXT, explained, one_line
from relatif.pipeline.cluster.pool import Work, run_units
from relatif.pipeline.cluster.session import WorkerShape
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.schemas.errors import ClusterError, DataError

KINDS = [kind for kind in vars(ray_errors).values() if isinstance(kind, type) and issubclass(kind, RayError)]


def made(kind: type[RayError]) -> RayError:
    """Return an error of a kind without its constructor, which needs Ray's own objects."""
    error = kind.__new__(kind)
    error.__str__ = lambda: "no"  # type: ignore[method-assign]
    Exception.__init__(error, "line one\nline two")
    return error


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not issubclass(kind, RayTaskError)])
def test_every_error_of_rays_is_told_in_one_line_with_what_to_do(
    kind: type[RayError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "__str__", lambda error: "Ray says why\nin two lines", raising=False)
    error = explained(made(kind), "score 00000-00019")
    assert isinstance(error, ClusterError)
    assert str(error).startswith("expected ")
    assert "score 00000-00019" in str(error)
    assert "found " in str(error)
    assert "Ray says why in two lines" in str(error)
    assert str(error).endswith("then run the same command again: finished units are kept")
    assert "\n" not in str(error)


def test_errors_of_functions_stay_what_they_are() -> None:
    own = RayTaskError("f", "traceback", DataError("expected a file, found none; copy it"))
    assert explained(own, "train") is own.cause
    users = RayTaskError("f", "traceback", ZeroDivisionError("a bug"))
    assert explained(users, "train") is users


def test_of_a_long_text_beginning_and_last_line_are_kept() -> None:
    text = "It failed.\n" + "frame\n" * 500 + "ModuleNotFoundError: No module named 'x'"
    assert one_line(text).startswith("It failed. frame")
    assert one_line(text).endswith("ModuleNotFoundError: No module named 'x'")
    assert len(one_line("x" * 5000)) <= LONGEST_TEXT + 5
    assert one_line(RayError()) == "RayError"


@pytest.fixture
def only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that the driver has and no worker."""
    (tmp_path / "only_here.py").write_text("def build(worker):\n    return str\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    yield only_here
    del sys.modules["only_here"]


@pytest.mark.parametrize("units", [1, 3])
def test_a_worker_that_lacks_a_module_is_told_once(only_here: Any, local_ray: None, units: int) -> None:
    with pytest.raises(ClusterError, match=r"^expected .* to begin on a worker, found .*No module named 'only_here'"):
        run_units(Work(only_here.build, range(units), "score"), WorkerShape(1, 1, 0), done=print, limits=Limits())


def test_a_task_that_lacks_a_module_is_told(only_here: Any, local_ray: None) -> None:
    with pytest.raises(
        ClusterError, match=r"^expected build to begin on a worker, found .*No module named 'only_here'"
    ):
        gather([submit(only_here.build, 1)])

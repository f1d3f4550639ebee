"""Every worked example of docs/examples: its own commands, in a copy of its folder, by what a user installs.

An example's folder NAME holds NAME.toml, NAME.py where it needs code of the user's, and make_data.py, which stands for
the data and the checkpoint that users have. Versions cut to few parameters are compared with a dense reference in
``test_example_NAME.py``.
"""

import shutil
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.own_tasks import EXAMPLES, SMALL_RAY
from tests.support.processes import job, sandbox
from tests.support.runs import ALWAYS_WRITTEN, tables

FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/*.toml"))

VARIANTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(FOLDERS, ()),
    "small_gpt:untied": ('task="small_gpt:untied"', 'model.checkpoint="untied.pt"'),
}
"""Every example as it is written, and what another of its commands sets."""

LONGEST_CODE = 40
"""Lines of a user's own code."""

LONGEST_RUN = 120
"""Seconds of a whole example on two idle cores; each command is ended after twice that."""

MEASURED = ("influence", "theta_relatif", "l_relatif")


def test_each_example_has_its_files() -> None:
    assert FOLDERS
    for name in FOLDERS:
        files = {path.name for path in (EXAMPLES / name).iterdir() if path.is_file()}
        assert {f"{name}.toml", "make_data.py"} <= files <= {f"{name}.toml", f"{name}.py", "make_data.py"}, name
        code = EXAMPLES / name / f"{name}.py"
        assert not code.exists() or len(code.read_text(encoding="utf-8").splitlines()) <= LONGEST_CODE, name
        assert (Path(__file__).parent / f"test_example_{name}.py").exists(), name


@pytest.mark.long
@pytest.mark.timeout(5 * LONGEST_RUN)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_example_runs_as_it_is_written(
    variant: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    name = variant.partition(":")[0]
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
    words = job("run", Path(f"{name}.toml"), Path(f"runs/{name}"), (*SMALL_RAY, *VARIANTS[variant]))[3:]
    began = time.monotonic()

    with sandbox() as machine:
        for command in (("make_data.py",), ("-m", "relatif.jobs", "run", *words)):
            ended = machine.run("env", "-C", str(folder), "python", *command, timeout=2 * LONGEST_RUN)
            assert ended.returncode == 0, ended.stdout + ended.stderr

    # Shown, not demanded: on a machine that others use too it says little of the example.
    record_property("seconds", round(time.monotonic() - began))
    found = tables(folder / "runs" / name)
    assert set(ALWAYS_WRITTEN) <= set(found)
    assert set(MEASURED) <= set(found["top_k"]["method"].to_pylist())
    if settings.get("model", {}).get("checkpoint"):
        assert "nothing was trained" in ended.stdout + ended.stderr

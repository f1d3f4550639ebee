"""Copies of the repository, and empty virtual environments to install it in, as users and clusters have them."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import yaml

from tests.support.runs import ROOT

SOURCES = ("__init__.py", "relatif", "schemas", "pipeline", "jobs", "data", "docs", "tests")
BESIDE = ("pyproject.toml", "requirements.lock", "README.md", "LICENSE", "Makefile", ".gitignore", "ray_cluster.yaml")
INSTALLED_PACKAGES = Path(sysconfig.get_path("purelib"))


def copy_checkout(folder: Path) -> Path:
    """Copy the sources and what lies beside them into ``folder``, with links as links."""
    folder.mkdir(parents=True)
    for name in (*SOURCES, *BESIDE):
        _copy(ROOT / name, folder / name)
    return folder


def lay_cluster_files(home: Path) -> Path:
    """Copy what ``ray_cluster.yaml`` mounts into ``home``, as rsync does (-a keeps links); return the project there."""
    mounts = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))["file_mounts"]
    for remote, local in mounts.items():
        _copy(ROOT / local, home / remote.removeprefix("~/"))
    return home / "relatif"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, target)


def build_wheel(checkout: Path, folder: Path) -> Path:
    """Build the wheel of a checkout with the tools of the running environment."""
    command = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(checkout))
    _pip(*command)
    (wheel,) = folder.glob("relatif-*.whl")
    return wheel


def environment_with(folder: Path, *requirement: str) -> Path:
    """Make an empty virtual environment, install ``requirement`` (or nothing) in it, and return its Python.

    Dependencies come from the running environment by a line of a .pth file: what .pth files lie there, such as that of
    an editable installation of this project, counts for nothing.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    python = folder / "bin/python"
    tools = folder.with_name(f"{folder.name}-tools")
    tools.mkdir()
    for path in (*INSTALLED_PACKAGES.glob("setuptools*"), INSTALLED_PACKAGES / "_distutils_hack"):
        (tools / path.name).symlink_to(path)
    # The dependencies' line comes last: pip must not find the running environment's own installation of the project.
    if requirement:
        options = ("--quiet", "--no-deps", "--no-build-isolation")
        _pip("--python", str(python), "install", *options, *requirement, path=tools)
    (site_packages(python) / "dependencies.pth").write_text(f"{INSTALLED_PACKAGES}\n")
    return python


def site_packages(python: Path) -> Path:
    """Return the folder of an environment's packages."""
    (folder,) = (python.parent.parent / "lib").glob("python*/site-packages")
    return folder


def _pip(*words: str, path: Path | None = None) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, "-m", "pip", *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr

"""The module of a user's task: imported by its name, with what to do where it is not found."""

import importlib
import importlib.util
import os
import platform
from types import ModuleType

from relatif.pipeline.calls import called
from relatif.schemas.errors import ConfigurationError

OLD_NAMES = ("pipeline", "schemas")
"""Packages of this project that were once imported without ``relatif.`` before their names."""


def imported_module(module_name: str, task_name: str) -> ModuleType:
    """Return the module of a task by its dotted name; ConfigurationError where it can't be imported."""
    try:
        with called(f"module {module_name!r} of task {task_name!r}", "be imported", passed=(ImportError,)):
            if not module_name or module_name.startswith("."):
                raise ImportError(f"no absolute name of a module: {module_name!r}")
            return importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(
            f"expected to import module {module_name!r} for task {task_name!r} on {platform.node()}, found {error}"
            f"{_new_name(error)}; start the job in the folder that holds the module (here {os.getcwd()}), give that "
            f"folder as --working-dir to ray job submit, or install the module where jobs and workers run, with all "
            f"it imports"
        ) from error


def _new_name(error: ImportError) -> str:
    """Return what to write in place of an old name of this project, where the error is about one."""
    missing = error.name
    if missing is None or missing.partition(".")[0] not in OLD_NAMES:
        return ""
    try:
        found = importlib.util.find_spec(f"relatif.{missing}")
    except ModuleNotFoundError:  # a parent package is missing, too
        found = None
    return "" if found is None else f" (relatif's own {missing} is imported as relatif.{missing})"

"""Where a job finds the module of a user's task."""

import os
import sys


def find_modules_here() -> None:
    """Let a task's module be imported from the current folder, as Ray lets workers do, wherever the script lies.

    Python itself looks there only with ``python -m``. What is installed comes first.
    """
    if os.getcwd() not in map(os.path.abspath, sys.path) and not sys.flags.safe_path:
        sys.path.append(os.getcwd())

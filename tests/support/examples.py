"""The worked examples' own modules."""

import importlib.util
from types import ModuleType

from tests.support.own_tasks import EXAMPLES


def example(name: str) -> ModuleType:
    """Import ``docs/examples/NAME/NAME.py`` as the file that it is."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

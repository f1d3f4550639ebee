"""Settings, TOML files and ``--out`` that have to be refused."""

from functools import partial

from tests.support.bad_inputs import Case, command


def setting(text: str, expected: str, *, late: bool = False) -> Case:
    """Return the case of one ``--set``."""
    return Case("set", text, lambda folder: command(folder, text), expected, late)


CASES = [
    setting("curvature.dampnig=1", r"curvature\.dampnig"),
    Case("config", "no TOML", partial(command, config="[data\n"), "expected TOML in run.toml"),
]

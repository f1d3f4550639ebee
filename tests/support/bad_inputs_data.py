"""Data sets and addresses that have to be refused."""

from tests.support.bad_inputs import Case, command

CASES = [
    Case(
        "data",
        "nothing there",
        lambda folder: command(folder, f"data.source={folder / 'none'}"),
        "expected a published format .*, found none of them",
        late=True,
    ),
]

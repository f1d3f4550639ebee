"""Errors are told apart by who can act on them, and can be caught as one."""

import inspect
import pickle

import pytest

from relatif.schemas import errors
from relatif.schemas.errors import RelatifError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


def test_there_is_an_error_for_everyone_who_can_do_something() -> None:
    assert {kind.__name__ for kind in KINDS} >= {
        "ConfigurationError",
        "DataError",
        "ChangedRunError",
        "MissingStageError",
        "ModelError",
        "NumericalError",
        "StorageError",
        "ClusterError",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_errors_have_one_base_and_survive_the_way_from_a_worker(kind) -> None:
    error = pickle.loads(pickle.dumps(kind("expected a, found b; do c")))

    assert isinstance(error, RelatifError)
    assert type(error) is kind
    assert str(error) == "expected a, found b; do c"
    assert kind.__doc__


def test_no_error_is_caught_by_another_kinds_handler() -> None:
    kinds = [kind for kind in KINDS if kind is not RelatifError]

    assert not [(one, other) for one in kinds for other in kinds if one is not other and issubclass(one, other)]

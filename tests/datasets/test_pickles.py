"""Pickles give plain data and run nothing."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.pickles import as_text, read_pickled_dict
from relatif.schemas.errors import DataError
from tests.reference.cifar import STOP, array, items, mapping, number, text

VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4)


class Touches:
    """Its pickle creates a file when it is read by pickle itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_python_2_pickles_of_arrays_are_read() -> None:
    data = mapping({"data": array(VALUES), "labels": items([number(3), number(-1)]), "title": text("a title")})
    assert pickle.loads(data, encoding="bytes")[b"labels"] == [3, -1]  # the pickle is one that pickle itself reads
    assert np.array_equal(pickle.loads(data, encoding="bytes")[b"data"], VALUES)
    found = read_pickled_dict(data, "here")
    assert isinstance(found["data"], np.ndarray)
    assert found["data"].dtype == np.uint8
    assert np.array_equal(found["data"], VALUES)
    assert (found["labels"], found["title"]) == ([3, -1], b"a title")


@pytest.mark.parametrize("order", ["C", "F"])
def test_today_s_pickles_of_arrays_are_read(order: str) -> None:
    values = np.array(VALUES, order=order)  # type: ignore[call-overload]
    found = read_pickled_dict(pickle.dumps({"data": values, "n": 2}, protocol=4), "here")
    assert np.array_equal(found["data"], VALUES)  # type: ignore[arg-type]
    assert found["n"] == 2


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_called(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"labels": Touches(tmp_path / "touched")}, protocol)
    with pytest.raises(DataError, match=r"pickle of plain data at here.*not plain .*\.open"):
        read_pickled_dict(data, "here")
    assert not (tmp_path / "touched").exists()
    pickle.loads(data)["labels"].close()
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("value", [OrderedDict(a=1), np.float64, np.random.default_rng, np.array(["a"], object).all])
def test_other_objects_are_refused(value: object) -> None:
    with pytest.raises(DataError, match=r"a reference to \w+"):
        read_pickled_dict(pickle.dumps({"data": value}, protocol=4), "here")


def test_numpy_s_names_can_t_be_called() -> None:
    called = mapping({"data": b"cnumpy\nndarray\n(" + number(5) + b"tR"})
    with pytest.raises(DataError, match="not callable"):
        read_pickled_dict(called, "here")
    with pytest.raises(DataError, match="a bare numpy type"):
        read_pickled_dict(mapping({"data": b"cnumpy\ndtype\n(" + text("u1") + b"tR"}), "here")


@pytest.mark.parametrize("cut", [0, 1, 10, 60, -2, -1])
def test_a_truncated_pickle_is_refused(cut: int) -> None:
    with pytest.raises(DataError, match="at here, found one that is truncated"):
        read_pickled_dict(mapping({"data": array(VALUES)})[:cut], "here")


def test_arrays_that_are_no_unsigned_bytes_are_refused() -> None:
    short = array(VALUES).replace(number(3) + number(4), number(3) + number(5))
    negative = array(VALUES).replace(number(3) + number(4), number(-3) + number(-4))
    for value in (array(VALUES, "i1"), short, negative):
        with pytest.raises(DataError, match="array of unsigned bytes as long as its shape says at here"):
            read_pickled_dict(mapping({"data": value}), "here")


def test_only_a_dict_with_text_as_keys_is_taken() -> None:
    with pytest.raises(DataError, match="pickled dict at here, found list"):
        read_pickled_dict(b"\x80\x02" + items([number(1)]) + STOP, "here")
    with pytest.raises(DataError, match="text at here, found 1"):
        read_pickled_dict(pickle.dumps({1: 2}, protocol=2), "here")


def test_text_of_either_python() -> None:
    assert (as_text(b"a", "here"), as_text("a", "here")) == ("a", "a")
    with pytest.raises(DataError, match="text at here"):
        as_text(b"\xff", "here")

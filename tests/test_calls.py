"""What a user's function raises is told as the user's, in one line, with file, line and what it was called on."""

import inspect
import pickle
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from relatif.pipeline.calls import called, described, is_ours, raised, read_inputs, run_model, unforeseen
from relatif.schemas.errors import DataError, ModelError, TaskError


class UnportableError(Exception):
    """An exception that can't be pickled, and whose text can't be made."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __str__(self) -> str:
        raise ValueError("no text")


def failing(error: BaseException) -> None:
    raise error


LINE = inspect.getsourcelines(failing)[1] + 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TypeError("no\n  such   thing"), "found TypeError: no such thing at "),
        (KeyError(), "found KeyError at "),
        (MemoryError(), "found MemoryError at "),
        (SystemExit(3), r"found sys.exit\(3\) at "),
        (SystemExit(), r"found sys.exit\(None\) at "),
        (UnportableError(), "found UnportableError: a message that can't be shown at "),
        (ValueError("x" * 9000), r"found ValueError: x{500}\.\.\. at "),
    ],
)
def test_an_error_is_told_in_one_line_and_travels(error, told) -> None:
    given = {"inputs": torch.zeros(2, 3), "rows": "5 to 6"}
    expected = f"^expected f to work, {told}.*test_calls.py:{LINE} "
    with pytest.raises(TaskError, match=expected) as caught, called("f", "work", given):
        failing(error)
    message = str(pickle.loads(pickle.dumps(caught.value)))
    assert "(called on inputs float32 [2, 3], rows 5 to 6); correct that function" in message
    assert len(message.splitlines()) == 1
    assert caught.value.__cause__ is error, "its traceback is there for --debug"


@pytest.mark.parametrize("error", [DataError("expected a, found b; do c"), KeyboardInterrupt(), GeneratorExit()])
def test_errors_of_this_project_and_interruptions_pass(error) -> None:
    with pytest.raises(type(error)) as caught, called("f", "work"):
        failing(error)
    assert caught.value is error


def test_a_recursion_without_end_is_told() -> None:
    def again() -> None:
        again()

    with (
        pytest.raises(TaskError, match=r"found RecursionError: maximum recursion .* at .*test_calls.py"),
        called("f", "g"),
    ):
        again()


def test_a_call_that_fails_before_its_first_line_is_told_by_where_the_function_is() -> None:
    told = rf"found TypeError: .*takes 1 positional .* at .*test_calls.py:{LINE - 1} "
    with pytest.raises(TaskError, match=told):
        read_inputs(partial(failing, ValueError()), torch.zeros(4, 3))


def test_a_line_of_the_users_is_told_before_a_librarys() -> None:
    with pytest.raises(TaskError, match=r"shapes cannot be multiplied.* at .*test_calls.py:\d+ "):
        run_model(Wide(), torch.zeros(4, 3), first_index=10)
    with pytest.raises(
        TaskError, match=r"shapes cannot be multiplied.* at .*linear.py:\d+ .*inputs float32 \[4, 3\], rows 10 to 13"
    ):
        run_model(nn.Sequential(nn.Linear(5, 2)), torch.zeros(4, 3), first_index=10)


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


class Returning(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, inputs: Tensor) -> object:
        return self.value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "found None for"),
        (torch.zeros(3, 2), r"found float32 \[3, 2\] for"),
        (torch.tensor(1.0), r"found float32 \[\] for"),
        (np.zeros((4, 2)), r"found numpy.ndarray float64 \[4, 2\] for"),
    ],
)
def test_what_is_no_row_for_each_example_is_refused(value, told) -> None:
    inputs = torch.zeros(4, 3)
    with pytest.raises(ModelError, match=f"the forward pass of the model Returning to return a tensor .*{told}"):
        run_model(Returning(value), inputs)
    with pytest.raises(ModelError, match=f"the task's model_inputs to return a tensor .*{told}"):
        read_inputs(lambda _: value, inputs)


@dataclass
class Output:
    """What some libraries' models return: an object with logits, and more that is no output."""

    logits: Tensor
    hidden: Tensor


OUTPUTS = torch.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    "value",
    [
        {"loss": torch.tensor(1.0), "logits": OUTPUTS, "hidden": torch.zeros(4, 9)},
        SequenceClassifierOutput(logits=OUTPUTS, hidden_states=(torch.zeros(4, 3),)),
        Output(OUTPUTS, torch.zeros(4, 9)),
        (OUTPUTS, None),
        (OUTPUTS, (torch.zeros(4, 2), torch.zeros(4, 2))),
        [torch.tensor(1.0), OUTPUTS],
        {"scores": OUTPUTS},
    ],
)
def test_the_outputs_are_found_in_what_a_model_returns(value) -> None:
    assert torch.equal(run_model(Returning(value), torch.zeros(4, 3)), OUTPUTS)


def test_two_batches_of_outputs_are_refused() -> None:
    pair = {"logits_per_image": torch.zeros(4, 4), "logits_per_text": torch.zeros(4, 4)}
    with pytest.raises(ModelError, match=r"one batch of outputs, found 2 \('logits_per_image': float32 \[4, 4\], "):
        run_model(Returning(pair), torch.zeros(4, 3))
    with pytest.raises(ModelError, match=r"found 2 .*returns the outputs that the loss is made of"):
        run_model(Returning((OUTPUTS, OUTPUTS)), torch.zeros(4, 3))


@pytest.mark.parametrize("value", [(None, None), {"logits": None}, {}, (), {"a": torch.zeros(3)}])
def test_a_tuple_or_dict_without_outputs_is_refused(value) -> None:
    with pytest.raises(ModelError, match=r"Returning to return a tensor .*return the outputs alone"):
        run_model(Returning(value), torch.zeros(4, 3))


class Sum(nn.Module):
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one - other


def test_a_model_takes_a_tuple_by_position_and_a_dict_by_name() -> None:
    one, other = torch.ones(4, 2), torch.zeros(4, 2)
    assert torch.equal(run_model(Sum(), (one, other)), one)
    assert torch.equal(run_model(Sum(), {"other": other, "one": one}), one)
    with pytest.raises(TaskError, match=r"keyword argument 'mask'.*inputs.one float32 \[4, 2\], inputs.mask"):
        run_model(Sum(), {"one": one, "mask": other})


def test_model_inputs_may_return_several_tensors() -> None:
    stored = torch.zeros(4, 3)
    read = read_inputs(lambda given: {"x": given, "mask": given > 0}, stored)
    assert isinstance(read, dict)
    assert [each.dtype for each in read.values()] == [torch.float32, torch.bool]
    assert len(read_inputs(lambda given: [given, given], stored)) == 2
    for wrong in ((stored, None), {"x": stored, "mask": torch.zeros(3)}):
        with pytest.raises(ModelError, match=r"model_inputs\[.*\] to return a tensor with the 4 examples"):
            read_inputs(lambda _, wrong=wrong: wrong, stored)


def test_what_model_inputs_raises_is_told_with_its_rows() -> None:
    with pytest.raises(TaskError, match=r"model_inputs to turn .* found ValueError: no at .*rows 7 to 10\)"):
        read_inputs(lambda _: failing(ValueError("no")), torch.zeros(4, 3), first_index=7)


def test_the_projects_own_functions_are_known() -> None:
    assert is_ours(described)
    assert is_ours(partial(described))
    assert is_ours(DataError)
    assert not is_ours(failing)
    assert not is_ours(torch.relu)


def test_other_values_are_described() -> None:
    assert (described(Wide), described("text"), described(None)) == ("the class Wide", "str 'text'", "None")
    assert raised(SystemExit("so")) == "sys.exit('so')"


def test_an_unforeseen_error_is_told_by_its_place_or_by_that_of_its_cause() -> None:
    error = RuntimeError("by the way")
    with pytest.raises(RuntimeError):
        failing(error)
    assert f"test_calls.py:{LINE}; --debug" in unforeseen(error)
    error.cause = OSError("no\nspace")
    assert "found OSError: no space;" in unforeseen(error)

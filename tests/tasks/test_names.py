"""The LSTM against its equations in NumPy, and that padding, batch and precision change nothing of a name's logits."""

import numpy as np
import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.datasets.surnames import VOCABULARY, encode
from relatif.pipeline.tasks.names import HIDDEN, NameLSTM, names_lstm, one_hot
from relatif.pipeline.tasks.task import load_model, load_task
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import DataError
from tests.support.held import held

torch.set_num_threads(1)

NAMES = ["Vasyukov", "Li", "O'Neal", "de la Cruz", "z", "Abdulatipov"]
CLASSES, LETTERS = 18, 57
FLOAT32 = 1e-5
"""Absolute, of logits below 1 in size: float32 through a dozen steps of the LSTM."""
FLOAT64 = 1e-12
"""Absolute: the same in float64."""


def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return NameLSTM().state_dict()


def model() -> NameLSTM:
    """The model as it is scored: float64, in evaluation mode."""
    loaded = load_model(names_lstm(), state())
    assert isinstance(loaded, NameLSTM)
    return loaded


def inputs(names: list[str], length: int = 20) -> Tensor:
    return one_hot(torch.from_numpy(encode(names, length))).double()


def by_hand(name: str) -> np.ndarray:
    """Logits of a name alone by the LSTM's equations, letter after letter, without padding."""
    values = {key: value.double().numpy() for key, value in state().items()}
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    hidden, cell = np.zeros(HIDDEN), np.zeros(HIDDEN)
    for letter in name:
        seen = values["lstm.weight_ih_l0"][:, VOCABULARY.index(letter)]
        gates = seen + values["lstm.bias_ih_l0"] + values["lstm.weight_hh_l0"] @ hidden + values["lstm.bias_hh_l0"]
        enter, forget, content, leave = gates.reshape(4, HIDDEN)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(content)
        hidden = sigmoid(leave) * np.tanh(cell)
    return values["linear.weight"] @ hidden + values["linear.bias"]


def test_logits_are_read_at_the_last_letter() -> None:
    found = model()(inputs(NAMES)).detach().numpy()

    assert found.shape == (len(NAMES), CLASSES)
    np.testing.assert_allclose(found, [by_hand(name) for name in NAMES], atol=FLOAT64)
    assert np.ptp(found, axis=0).min() > 100 * FLOAT64, "names have logits of their own"


@pytest.mark.parametrize("length", [11, 12, 40])
def test_padding_changes_nothing(length: int) -> None:
    torch.testing.assert_close(model()(inputs(NAMES, length)), model()(inputs(NAMES)), rtol=0, atol=FLOAT64)


def test_other_names_of_the_batch_change_nothing() -> None:
    alone = torch.cat([model()(inputs([name])) for name in NAMES])
    torch.testing.assert_close(model()(inputs(NAMES)), alone, rtol=0, atol=FLOAT64)


def test_float32_gives_the_same_logits() -> None:
    trained = NameLSTM()
    trained.load_state_dict(state())
    found = trained(inputs(NAMES).float())

    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), model()(inputs(NAMES)), rtol=0, atol=FLOAT32)


def test_a_forward_pass_leaves_everything_as_it_was() -> None:
    explained, names = model(), inputs(NAMES)
    before = {name: (value, value._version, value.clone()) for name, value in explained.state_dict().items()}
    numbers, seen = torch.get_rng_state(), names.clone()

    first = explained(names)

    assert torch.equal(explained(names), first)
    assert torch.equal(names, seen)
    assert torch.equal(torch.get_rng_state(), numbers)
    for name, value in explained.state_dict().items():
        held, version, copy = before[name]
        assert value.data_ptr() == held.data_ptr()
        assert (value._version, torch.equal(value, copy)) == (version, True)


def test_codes_become_one_hot_and_padding_becomes_zeros() -> None:
    found = one_hot(torch.tensor([[1, 57, 0], [27, 0, 0]], dtype=torch.uint8))

    expected = torch.zeros(2, 3, LETTERS)
    expected[0, 0, 0] = expected[0, 1, 56] = expected[1, 0, 26] = 1
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("codes", [[0, 0, 0], [0, 1, 2], [3, 0, 2], [58, 0, 0]])
def test_what_is_no_name_is_refused(codes: list[int]) -> None:
    stored = torch.tensor([[1, 2, 3], codes], dtype=torch.uint8)
    with pytest.raises(DataError, match=rf"codes from 1 to 57 and then only zeros, found \[{codes[0]}, "):
        one_hot(stored)


def test_the_last_layer_alone_can_be_explained() -> None:
    covered = coverage(NameLSTM(), ["linear"])
    assert covered.blocks == {"linear": (CLASSES, HIDDEN + 1)}
    assert list(coverage(NameLSTM()).blocks) == ["lstm.ih_l0", "lstm.hh_l0", "linear"]


def test_training_learns_and_threads_change_no_bit() -> None:
    endings = ["ov", "eau", "ski", "ez"]
    names = [f"{start}{middle}{ending}" for start in "BDGKLMNRT" for middle in ("a", "uy") for ending in endings]
    codes, labels = torch.from_numpy(encode(names, 8)), torch.arange(len(names)) % len(endings)
    settings = TrainConfig(epochs=12, batch_size=18, learning_rate=0.01, weight_decay=0)

    task = names_lstm()
    found = []
    for threads in (1, 3):
        with held(codes, labels, shards=threads, threads=threads) as data:
            found.append(task.train(task, data, settings))
    first, again = found

    assert all(torch.equal(value, again[name]) for name, value in first.items())
    with torch.no_grad():
        predicted = load_model(task, first)(one_hot(codes).double()).argmax(dim=1)
    assert torch.equal(predicted, labels)


def test_it_is_a_built_in_task() -> None:
    task = load_task("names_lstm")
    assert (task.name, task.likelihood) == ("names_lstm", Categorical(CLASSES))

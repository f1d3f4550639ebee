"""A checkpoint's tensors under a model's names: what is seen through, what is told, and what is refused."""

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.checkpoints.matching import Matched, matched
from relatif.pipeline.checkpoints.reading import Checkpoint
from relatif.schemas.errors import ModelError, NumericalError

WORDS, WIDTH = 7, 4


class Tied(nn.Module):
    """A language model's shape: a head that shares its weight with the embedding, inside of a base model."""

    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(WORDS, WIDTH), "norm": nn.BatchNorm1d(WIDTH)})
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.head.weight = self.transformer["wte"].weight


def state(*, tied: bool = True) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model = Tied(tied=tied)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else torch.tensor(5))
    return {name: value.clone() for name, value in model.state_dict().items()}


def found(tensors: dict[str, Tensor], model: nn.Module | None = None) -> Matched:
    return matched(Checkpoint(tensors, "a state dict", "there.pt"), model or Tied(), "mine")


def renamed(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {name.replace(old, new, 1) if name.startswith(old) else name: value for name, value in tensors.items()}


WRITTEN = {
    "as the model names them": lambda s: s,
    "by DataParallel": lambda s: {f"module.{name}": value for name, value in s.items()},
    "by torch.compile in DataParallel": lambda s: {f"module._orig_mod.{name}": value for name, value in s.items()},
    "with a compiled part": lambda s: renamed(s, "transformer.", "transformer._orig_mod."),
    "by a trainer": lambda s: {f"net.inner.{name}": value for name, value in s.items()},
    "as a base model without its prefix": lambda s: {n.removeprefix("transformer."): v for n, v in s.items()},
    "tied weights once": lambda s: {n: v for n, v in s.items() if n != "head.weight"},
    "the base model alone, tied weights once": lambda s: {
        n.removeprefix("transformer."): v for n, v in s.items() if n != "head.weight"
    },
    "the head alone of tied weights": lambda s: {n: v for n, v in s.items() if n != "transformer.wte.weight"},
    "without counts of batches": lambda s: {n: v for n, v in s.items() if not n.endswith("num_batches_tracked")},
    "with positions": lambda s: s | {"transformer.position_ids": torch.arange(9)[None]},
    "normalizations by old names": lambda s: renamed(
        renamed(s, "transformer.norm.weight", "transformer.norm.gamma"),
        "transformer.norm.bias",
        "transformer.norm.beta",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", WRITTEN)
def test_names_are_seen_through(how: str) -> None:
    original = state()
    expected = original | {"transformer.norm.num_batches_tracked": torch.tensor(0)} if "counts" in how else original

    made = found(WRITTEN[how](original))

    assert list(made.state) == list(Tied().state_dict())
    for name, value in expected.items():
        assert torch.equal(made.state[name], value), name
    assert bool(made.told) is (how != "as the model names them")
    Tied().load_state_dict(made.state)


def test_what_was_done_is_told() -> None:
    assert found(WRITTEN["by a trainer"](state())).told == ("prefix 'net.inner.' taken off its names",)
    told = found(WRITTEN["tied weights once"](state())).told
    assert told == ("head.weight tied to what the checkpoint has under another name",)
    told = found(WRITTEN["without counts of batches"](state())).told
    assert told == ("1 num_batches_tracked not in it, which change no output",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_with_a_line_and_double_kept(dtype: torch.dtype) -> None:
    original = state()
    halves = {name: value.to(dtype) if value.is_floating_point() else value for name, value in original.items()}
    made = found(halves)
    assert made.state["head.weight"].dtype == torch.float32
    assert torch.equal(made.state["head.weight"], halves["head.weight"].float())
    assert made.told == (f"6 tensor(s) of {str(dtype).removeprefix('torch.')} cast to float32",)
    doubles = {name: value.double() if value.is_floating_point() else value for name, value in original.items()}
    assert found(doubles).state["head.weight"].dtype == torch.float64
    assert found(doubles).told == ()


def test_differences_are_listed_together() -> None:
    tensors = {f"module.{name}": value for name, value in state(tied=False).items()}
    del tensors["module.transformer.norm.bias"]
    tensors["module.fc.weight"] = torch.zeros(2)
    tensors["module.head.weight"] = torch.zeros(9, WIDTH)
    with pytest.raises(ModelError) as refused:
        found(tensors, Tied(tied=False))
    text = str(refused.value)
    assert "1 missing (transformer.norm.bias float32 [4])" in text
    assert "1 unexpected (fc.weight)" in text
    assert "1 of another shape or kind (head.weight float32 [9, 4] for float32 [7, 4])" in text
    assert "prefix" in text
    assert "\n" not in text


def test_many_differences_are_cut_short() -> None:
    with pytest.raises(ModelError, match=r"10 unexpected \(x0, x1, x2, x3 and 6 more\)"):
        found({f"x{number}": torch.zeros(1) for number in range(10)})


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_another_kind_of_numbers_is_refused(kind: torch.dtype) -> None:
    tensors = state() | {"transformer.norm.weight": torch.ones(WIDTH).to(kind)}
    with pytest.raises(ModelError, match=r"of another shape or kind \(transformer\.norm\.weight"):
        found(tensors)


def test_numbers_without_their_scale_and_beyond_the_models_type_are_refused() -> None:
    small = state() | {"head.weight": state()["head.weight"].to(torch.float8_e4m3fn)}
    with pytest.raises(ModelError, match=r"another shape or kind \(head\.weight float8_e4m3fn"):
        found(small)
    model = nn.Module()
    model.register_buffer("ids", torch.arange(2, dtype=torch.int32))
    assert torch.equal(found({"ids": torch.tensor([5, 7])}, model).state["ids"], torch.tensor([5, 7]).int())
    with pytest.raises(ModelError, match=r"another shape or kind \(ids int64"):
        found({"ids": torch.tensor([5, 2**40])}, model)


def test_a_state_of_more_than_tensors_is_refused() -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"count": 3}

    tensors = dict(nn.Linear(2, 2).state_dict())
    with pytest.raises(ModelError, match="found _extra_state of type dict in it; keep such values in buffers"):
        found(tensors, Counting(2, 2))


def test_two_values_of_tied_weights_are_refused() -> None:
    with pytest.raises(ModelError, match=r"expected one tensor for transformer.wte.weight and head.weight"):
        found(state(tied=False))


@pytest.mark.parametrize("name", ["transformer.wte.weight", "transformer.norm.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(name: str, value: float) -> None:
    tensors = state(tied=False)
    tensors[name].view(-1)[2] = value
    with pytest.raises(NumericalError, match=f"found {name} not to be"):
        found(tensors, Tied(tied=False))


def test_the_model_stays_as_it_was() -> None:
    model = Tied()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = found(state(), model)
    made.state["head.weight"].zero_()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

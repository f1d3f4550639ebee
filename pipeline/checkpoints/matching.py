"""A checkpoint's tensors under the names of a model: prefixes are seen through, all differences are told at once."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relatif.pipeline.checkpoints.reading import Checkpoint
from relatif.schemas.errors import ModelError, NumericalError

LISTED = 4
"""Names that an error lists of each kind."""

DEPTH = 3
"""Parts of a dotted name that may be a prefix."""

WRAPPING = frozenset({"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that DataParallel, torch.compile and sharded training put in."""

OLD_ENDINGS = {"gamma": "weight", "beta": "bias"}
"""As normalizations were called when the first language models were published."""

COUNTED = "num_batches_tracked"
"""A buffer of batch normalization that changes no output; checkpoints of old versions lack it."""

MADE_BY_THE_MODEL = (r"(^|\.)position_ids$",)
"""Tensors that models once stored and now make themselves."""

HALVES = (torch.float16, torch.bfloat16)

Rename = Callable[[str], str]


@dataclass(frozen=True, eq=False)
class Matched:
    """The state of a model from a checkpoint, by all of the model's names in its order, and what was done for it."""

    state: dict[str, Tensor]
    told: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Naming:
    """A checkpoint's tensors renamed, with the model's names that are missing and those it does not know."""

    what: str
    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unexpected)


def matched(checkpoint: Checkpoint, model: nn.Module, task: str) -> Matched:
    """Return the state that a model takes from a checkpoint.

    Tensors in half precision become float32. Weights that the model ties may be stored once. Raises ModelError that
    lists missing and unexpected names and other shapes, and NumericalError for values that are not finite.
    """
    expected, ties = _state_of(model, task), _ties(model)
    naming = min(_namings(checkpoint.tensors, expected, ties, _ignored(model)), key=lambda each: each.faults)
    shapes = [name for name, value in naming.tensors.items() if not _fits(value, expected.get(name))]
    if naming.faults or shapes:
        raise _different(checkpoint, task, naming, expected, shapes)
    state, told = {}, [naming.what] if naming.what else []
    for name, value in expected.items():
        found = _found(name, naming.tensors, ties)
        state[name] = value.detach().clone() if found is None else _cast(found, value)
    _require_ties(checkpoint, naming.tensors, ties)
    _require_finite(checkpoint, state)
    return Matched(state, (*told, *_told(naming, expected, ties)))


def _state_of(model: nn.Module, task: str) -> dict[str, Tensor]:
    state: dict[str, object] = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"expected a model of task {task!r} whose state is tensors alone, found {name} of type "
                f"{type(value).__name__} in it; keep such values in buffers, in place of get_extra_state"
            )
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _namings(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    ties: Mapping[str, Sequence[str]],
    ignored: re.Pattern[str],
) -> Iterator[_Naming]:
    """Yield ways to read a checkpoint's names, the plainest first; the first that fits ends them."""
    for what, rename in _renames(tensors, expected):
        renamed = {rename(name): value for name, value in tensors.items()}
        if len(renamed) < len(tensors):
            continue
        missing = [name for name in expected if _found(name, renamed, ties) is None and not name.endswith(COUNTED)]
        others = [name for name in renamed if name not in expected]
        left_out = tuple(name for name in others if ignored.search(name))
        known = {name: value for name, value in renamed.items() if name in expected}
        unexpected = tuple(name for name in others if name not in left_out)
        naming = _Naming(what, known, tuple(missing), unexpected, left_out)
        yield naming
        if not naming.faults:
            return


def _renames(tensors: Iterable[str], expected: Iterable[str]) -> Iterator[tuple[str, Rename]]:
    """Yield what is done to names, in words, and the function that does it; nothing first."""
    theirs, ours = _prefixes(tensors), _prefixes(expected)
    wanted = set(expected)
    for inner_what, inner in _inner_renames():
        yield inner_what, inner
        for prefix in theirs:
            yield _and(inner_what, f"prefix {prefix!r} taken off its names"), _without(inner, prefix)
        for prefix in ours:
            yield _and(inner_what, f"prefix {prefix!r} put before its names"), _with(inner, prefix, wanted)


def _inner_renames() -> Iterator[tuple[str, Rename]]:
    yield "", lambda name: name
    yield "prefixes of wrappers (module., _orig_mod.) taken off its names", _unwrapped
    yield "names gamma and beta read as weight and bias", _renewed
    yield "prefixes of wrappers taken off, gamma and beta read as weight and bias", lambda n: _renewed(_unwrapped(n))


def _and(one: str, other: str) -> str:
    return f"{one}, {other}" if one else other


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPING)


def _renewed(name: str) -> str:
    before, dot, last = name.rpartition(".")
    return f"{before}{dot}{OLD_ENDINGS.get(last, last)}"


def _without(inner: Rename, prefix: str) -> Rename:
    return lambda name: inner(name).removeprefix(prefix)


def _with(inner: Rename, prefix: str, wanted: set[str]) -> Rename:
    # What has its place already, such as a head beside a base model, keeps it.
    return lambda name: found if (found := inner(name)) in wanted else f"{prefix}{found}"


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the first parts of dotted names, each with its dot, in order."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:count]) + ".": None for count in range(1, min(DEPTH, len(parts) - 1) + 1)}
    return list(found)


def _ties(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for each name of a tensor that has several, all of them."""
    names: dict[int, list[str]] = {}
    for name, value in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)):
        names.setdefault(id(value), []).append(name)
    return {name: tuple(group) for group in names.values() if len(group) > 1 for name in group}


def _found(name: str, tensors: Mapping[str, Tensor], ties: Mapping[str, Sequence[str]]) -> Tensor | None:
    """Return the tensor for a name of the model: its own, or that of a name that the model ties to it."""
    return next((tensors[each] for each in (name, *ties.get(name, ())) if each in tensors), None)


def _ignored(model: nn.Module) -> re.Pattern[str]:
    """Return a pattern of the names that the model makes itself, as models of Hugging Face also tell."""
    told = [each for each in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or () if isinstance(each, str)]
    return re.compile("|".join(f"(?:{each})" for each in (*MADE_BY_THE_MODEL, *told)))


def _fits(value: Tensor, expected: Tensor | None) -> bool:
    if expected is None or value.layout != torch.strided:
        return expected is None
    kinds = [(each.is_floating_point(), each.is_complex(), each.dtype == torch.bool) for each in (value, expected)]
    if value.shape != expected.shape or kinds[0] != kinds[1]:
        return False
    if value.is_floating_point():
        # Smaller ones than halves are numbers without their scale.
        return value.dtype.itemsize >= HALVES[0].itemsize
    return torch.equal(value.to(expected.dtype).to(value.dtype), value)


def _cast(value: Tensor, expected: Tensor) -> Tensor:
    if value.is_floating_point():
        return value.float() if value.dtype in HALVES else value.clone()
    return value.to(expected.dtype)


def _require_ties(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], ties: Mapping[str, Sequence[str]]) -> None:
    for group in sorted(set(map(tuple, ties.values()))):
        there = [name for name in group if name in tensors]
        if any(not torch.equal(tensors[there[0]], tensors[name]) for name in there[1:]):
            raise ModelError(
                f"expected one tensor for {' and '.join(group)}, which build_model() ties, found different ones in "
                f"{checkpoint.address}; build a model that does not tie them"
            )


def _require_finite(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> None:
    broken = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise NumericalError(
            f"expected finite numbers in the checkpoint {checkpoint.address}, found {_listed(broken)} not to be; take "
            f"one from before the training diverged, or fetch the file again"
        )


def _told(naming: _Naming, expected: Mapping[str, Tensor], ties: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for dtype in HALVES:
        count = sum(value.dtype == dtype for value in naming.tensors.values())
        if count:
            yield f"{count} tensor(s) of {str(dtype).removeprefix('torch.')} cast to float32"
    tied = [name for name in expected if name in ties and name not in naming.tensors]
    if tied:
        yield f"{_listed(tied)} tied to what the checkpoint has under another name"
    if naming.left_out:
        yield f"{_listed(naming.left_out)} left out: the model makes that itself"
    counted = [name for name in expected if name.endswith(COUNTED) and name not in naming.tensors]
    if counted:
        yield f"{len(counted)} {COUNTED} not in it, which change no output"


def _different(
    checkpoint: Checkpoint, task: str, naming: _Naming, expected: Mapping[str, Tensor], shapes: Sequence[str]
) -> ModelError:
    missing = [f"{name} {_shape(expected[name])}" for name in naming.missing]
    unexpected = list(naming.unexpected)
    other = [f"{name} {_shape(naming.tensors[name])} for {_shape(expected[name])}" for name in shapes]
    kinds = ((missing, "missing"), (unexpected, "unexpected"), (other, "of another shape or kind"))
    found = " and ".join(f"{len(names)} {what} ({_listed(names)})" for names, what in kinds if names)
    after = f" after {naming.what}" if naming.what else ""
    return ModelError(
        f"expected the {len(expected)} tensors of the model of task {task!r} in {checkpoint.address} "
        f"({checkpoint.kind}), found {found}{after}; name a checkpoint of this model, or let the task build the model "
        f"that the checkpoint is of"
    )


def _shape(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"

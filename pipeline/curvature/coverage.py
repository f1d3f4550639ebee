"""Which parameters of a model are explained, in which blocks, and why the others are not. None is left out silently."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from relatif.pipeline.curvature.kinds import Blocks, blocks_of
from relatif.pipeline.curvature.places import Column, Place, Row
from relatif.schemas.errors import ModelError

FROZEN = "frozen: requires_grad is False"
NOT_CHOSEN = "not among curvature.layers"
EXCLUDED = "left out by curvature.exclude"

PARAMETRIZED = ".parametrizations."
"""Stands in the names of modules that hold what the parameters of a layer are made of."""


@dataclass(frozen=True)
class CoveredLayer:
    """A module with the shapes (O, I) of its blocks by name, and the places of its parameters by PyTorch's names."""

    name: str
    module: nn.Module
    blocks: Mapping[str, tuple[int, int]]
    places: Mapping[str, Place]
    elementwise: frozenset[str]


@dataclass(frozen=True)
class ParameterCoverage:
    """A parameter by its PyTorch name, how many numbers it has, whether it is covered, and how or why not."""

    name: str
    count: int
    covered: bool
    reason: str


@dataclass(frozen=True)
class Coverage:
    """The covered layers by name, in the model's order, and how every parameter is covered, or why it is not.

    A parameter that several layers share is the first one's.
    """

    layers: Mapping[str, CoveredLayer]
    parameters: tuple[ParameterCoverage, ...]

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """Return (O, I) of every block by name."""
        return {name: shape for layer in self.layers.values() for name, shape in layer.blocks.items()}

    @property
    def places(self) -> dict[str, Place]:
        """Return the place of every covered parameter by its PyTorch name."""
        return {name: place for layer in self.layers.values() for name, place in layer.places.items()}

    @property
    def exact(self) -> frozenset[str]:
        """Return the names of the blocks that hold a gradient as it is, in one row or one column."""
        places = self.places.values()
        return frozenset(place.block for place in places if isinstance(place, Row | Column))

    @property
    def covered_count(self) -> int:
        """Number of parameters P that scores take into account."""
        return sum(parameter.count for parameter in self.parameters if parameter.covered)

    @property
    def total_count(self) -> int:
        """Number of parameters of the model."""
        return sum(parameter.count for parameter in self.parameters)

    def parameter_values(self, blocks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return values [..., *shape] of the covered parameters from matrices [..., O, I] of all blocks."""
        return {name: place.values(blocks) for name, place in self.places.items()}


@dataclass(frozen=True)
class _Parameter:
    """A parameter with all its names, as layers and their own names for it; the first is PyTorch's."""

    value: nn.Parameter
    owners: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(_path(*owner) for owner in self.owners)

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the layers that own it, with those that a parametrization belongs to."""
        owners = [name for name, _ in self.owners]
        return tuple(dict.fromkeys(each for name in owners for each in (name, name.partition(PARAMETRIZED)[0])))


def coverage(model: nn.Module, patterns: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> Coverage:
    """Return what is covered of a model: its trainable parameters, or those of the layers that match a pattern.

    Patterns are those of file names (``*``, ``?``, ``[...]``) over the names of layers; those of ``exclude`` are over
    the names of layers and parameters, and leave them out. A parameter that layers share is covered once. Raises
    ModelError for parameters without shape or of complex numbers, for layers that are known not to be understood, for a
    pattern that matches nothing, and for a model without a covered layer.
    """
    parameters = _parameters(model)
    _check_kinds(parameters)
    owned = list(dict.fromkeys(layer for parameter in parameters for layer, _ in parameter.owners))
    _check_patterns(patterns, exclude, parameters)
    why = [_why_not(parameter, patterns, exclude) for parameter in parameters]
    chosen = [parameter for parameter, reason in zip(parameters, why, strict=True) if reason is None]
    modules, layers = dict(model.named_modules()), dict[str, CoveredLayer]()
    for name in owned:
        mine = {each.owners[0][1]: each for each in chosen if each.owners[0][0] == name}
        if mine:
            tied = {key for key, each in mine.items() if len({layer for layer, _ in each.owners}) > 1}
            values = {key: each.value for key, each in mine.items()}
            layers[name] = _layer(name, modules[name], blocks_of(name, modules[name], values, tied))
    if not layers:
        raise ModelError(
            "expected a model with trainable layers, found none; unfreeze one, or choose others by curvature.layers "
            "and curvature.exclude"
        )
    covered = Coverage(layers, ())
    return Coverage(layers, tuple(_described(parameters, why, covered)))


def coverage_text(covered: Coverage) -> str:
    """Return in one line how many parameters are covered, and how many are not, by reason."""
    skipped = [parameter for parameter in covered.parameters if not parameter.covered]
    reasons = {parameter.reason: 0 for parameter in skipped}
    for parameter in skipped:
        reasons[parameter.reason] += parameter.count
    rest = "".join(f"; {count:,} {reason}" for reason, count in reasons.items())
    return f"{covered.covered_count:,} of {covered.total_count:,} parameters in {len(covered.layers)} layer(s){rest}"


def _parameters(model: nn.Module) -> list[_Parameter]:
    """Return every parameter once, in the model's order."""
    owners: dict[int, list[tuple[str, str]]] = {}
    values: dict[int, nn.Parameter] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append((name, key))
            values[id(parameter)] = parameter
    return [_Parameter(values[key], tuple(places)) for key, places in owners.items()]


def _layer(name: str, module: nn.Module, blocks: Blocks) -> CoveredLayer:
    places = {_path(name, key): place for key, place in blocks.places.items()}
    return CoveredLayer(name, module, blocks.shapes, places, frozenset(blocks.elementwise))


def _why_not(parameter: _Parameter, patterns: Sequence[str] | None, exclude: Sequence[str]) -> str | None:
    """Return why a parameter is not covered, or None."""
    if not parameter.value.requires_grad:
        return FROZEN
    if patterns is not None and not _matches(parameter.layers, patterns):
        return NOT_CHOSEN
    return EXCLUDED if _matches((*parameter.layers, *parameter.names), exclude) else None


def _described(
    parameters: Sequence[_Parameter], why: Sequence[str | None], covered: Coverage
) -> Iterator[ParameterCoverage]:
    exact, places = covered.exact, covered.places
    for parameter, reason in zip(parameters, why, strict=True):
        name, count = parameter.names[0], parameter.value.numel()
        if reason is not None:
            yield ParameterCoverage(name, count, False, reason)
            continue
        place = places[name]
        how = "exact block" if getattr(place, "block", None) in exact else "Kronecker factors"
        shared = f", shared with {', '.join(parameter.names[1:])}" if parameter.names[1:] else ""
        yield ParameterCoverage(name, count, True, how + shared)


def _check_kinds(parameters: Sequence[_Parameter]) -> None:
    """Refuse parameters that have no shape yet, and complex ones: their gradients are not real numbers."""
    for parameter in parameters:
        if isinstance(parameter.value, nn.parameter.UninitializedParameter):
            raise ModelError(
                f"expected parameters with a shape, found {parameter.names[0]} of a lazy layer without one; let "
                f"build_model() call the model once, or give the layer its size"
            )
        if parameter.value.requires_grad and parameter.value.is_complex():
            raise ModelError(
                f"expected trainable parameters of real numbers, found {parameter.names[0]} of "
                f"{parameter.value.dtype}; freeze it, or give its real and imaginary parts a layer each"
            )


def _check_patterns(patterns: Sequence[str] | None, exclude: Sequence[str], parameters: Sequence[_Parameter]) -> None:
    layers = list(dict.fromkeys(layer for parameter in parameters for layer in parameter.layers))
    names = [name for parameter in parameters for name in parameter.names]
    for setting, given, known in (("layers", patterns or (), layers), ("exclude", exclude, [*layers, *names])):
        for pattern in given:
            if not _matches(known, [pattern]):
                raise ModelError(
                    f"expected the pattern {pattern!r} of curvature.{setting} to match a layer with parameters"
                    f"{' or a parameter' if setting == 'exclude' else ''}, found {', '.join(known) or 'none'}; name "
                    f"one of those"
                )


def _matches(names: Collection[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _path(name: str, key: str) -> str:
    return f"{name}.{key}".lstrip(".")

"""An explained input and its training examples as what people look at: names, amounts, pictures, parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.explaining.helpers import Helper
from relatif.pipeline.explaining.media import media_of, media_of_rows, token_texts
from relatif.pipeline.explaining.one_query import OneQuery
from relatif.pipeline.explaining.parts import Parts
from relatif.pipeline.showing.shown import Media, Part, Shown, ShownExample, ShownMethod, cell, number, probability
from relatif.schemas.methods import METHODS

Helpers = Mapping[str, Sequence[Helper]]

HELPS, HARMS = "helps", "harms"
LISTED = 4
"""Layers that a note names."""

INFLUENCE, NEGATIVE = "influence", "negative_influence"


@dataclass(frozen=True)
class Split:
    """A score's parts with their names, and what belongs to no token; ``rest`` is None where parts are layers."""

    parts: tuple[Part, ...] = ()
    rest: float | None = None


@dataclass(frozen=True)
class PartTexts:
    """Splits of scores by method and side (helps, harms), in the order of the examples; and why parts have no token."""

    splits: Mapping[tuple[str, str], Sequence[Split]]
    note: str | None = None

    def of(self, method: str, side: str, place: int) -> Split:
        """Return the split of an example's score; an empty one where scores are not split."""
        found = self.splits.get((method, side))
        return Split() if found is None else found[place]

    def as_json(self, method: str, side: str, place: int) -> dict[str, Any]:
        """Return what is added to an example's row of the JSON: nothing where its score is not split."""
        split = self.of(method, side, place)
        if split.rest is not None:
            return {"parts": {"tokens": [list(part) for part in split.parts], "rest": split.rest}}
        return {"parts": {"layers": dict(split.parts)}} if split.parts else {}


def part_texts(one: OneQuery, methods: Helpers, harms: Helpers, split: Mapping[str, Parts] | None) -> PartTexts:
    """Return parts of scores beside what they are parts of: names of layers, or the texts of tokens."""
    if not split:
        return PartTexts({})
    known = sorted({each.train_index for found in (*methods.values(), *harms.values()) for each in found})
    is_by_layer = not any(parts.by_token for parts in split.values())
    texts = {} if is_by_layer else _texts(one, known)
    found = {}
    for name, parts in split.items():
        helpers, harming = methods.get(name, ()), harms.get(name, ())
        each = [split_of(parts, row, texts.get(helper.train_index)) for row, helper in enumerate((*helpers, *harming))]
        found[name, HELPS], found[name, HARMS] = each[: len(helpers)], each[len(helpers) :]
    whole = next(iter(split.values())).whole
    more = f" and {len(whole) - LISTED} more" if whole[LISTED:] else ""
    note = f"not applied token by token: {', '.join(whole[:LISTED])}{more}" if whole and not is_by_layer else None
    layers = list(dict.fromkeys(name for parts in split.values() for name in parts.layers))
    if is_by_layer and len(layers) == 1:
        note = f"one layer, {layers[0]}, has the whole of every score"
    return PartTexts(found, note)


def _texts(one: OneQuery, rows: Sequence[int]) -> dict[int, list[str]]:
    stored, _ = one.engine.training.examples(rows)
    return dict(zip(rows, token_texts(one.run, stored), strict=True))


def split_of(parts: Parts, row: int, texts: Sequence[str] | None) -> Split:
    """Return the parts of one example's score with their names: layers, or the ``texts`` of its tokens [T]."""
    if texts is None:
        return Split(tuple((name, float(values[row])) for name, values in parts.layers.items()))
    if parts.tokens is None:
        return Split((), float(parts.rest[row]))
    values = parts.tokens[row].tolist()
    # What is behind a text's end is no token of it.
    padding = sum(value for text, value in zip(texts, values, strict=True) if not text)
    tokens = tuple((text, value) for text, value in zip(texts, values, strict=True) if text)
    return Split(tokens, float(parts.rest[row]) + padding)


@dataclass(frozen=True, eq=False)
class ShownQuery:
    """What is shown of one explained input: ``columns`` of it, names of classes, corrected effects by row, parts."""

    one: OneQuery
    columns: Mapping[str, Any]
    class_name: Callable[[int | None], str | None]
    corrected: Mapping[int, float | None]
    texts: PartTexts
    by: str | None

    def shown(self, methods: Helpers, harms: Helpers) -> Shown:
        """Return the input with the examples that help and harm by each method."""
        run, query = self.one.run, self.one.query
        rows = [each.train_index for found in (*methods.values(), *harms.values()) for each in found]
        media = media_of_rows(run, run.scored_shards[0].split, rows, self.one.engine.training.examples)
        notes = (*query.notes, *([self.texts.note] if self.texts.note else []))
        found = [
            ShownMethod(
                name,
                METHODS[name].title,
                [self._example(each, media, name, HELPS, place) for place, each in enumerate(helpers)],
                [self._example(each, media, name, HARMS, place) for place, each in enumerate(harms.get(name, ()))],
            )
            for name, helpers in methods.items()
            # The opponents are listed as what harms by influence.
            if name != NEGATIVE or not harms.get(INFLUENCE)
        ]
        return Shown(query.told, self._own_media(), self._facts(), found, self._meaning(), self._unit(), notes, self.by)

    def _example(self, helper: Helper, media: Mapping[int, Media], method: str, side: str, place: int) -> ShownExample:
        split = self.texts.of(method, side, place)
        label, predicted = self.class_name(helper.label), self.class_name(helper.predicted_label)
        if helper.target is not None:
            label = f"{_numbers(helper.target)}, predicted {_numbers(helper.prediction)}"
        return ShownExample(
            helper.rank,
            helper.train_index,
            helper.score,
            helper.train_id,
            label,
            predicted if predicted != label and helper.target is None else None,
            helper.probability,
            helper.effect,
            self.corrected.get(helper.train_index) if METHODS[method].additive else None,
            media[helper.train_index],
            split.parts,
            split.rest,
        )

    def _own_media(self) -> Media:
        run, query = self.one.run, self.one.query
        if query.split is not None and query.row is not None:
            return media_of_rows(run, query.split, [query.row])[query.row]
        return media_of(run, query.stored.inputs, [query.text])[0]

    def _facts(self) -> list[tuple[str, str]]:
        explained, predicted, label = (
            self.class_name(_label(self.columns.get(name))) for name in ("explained_label", "predicted_label", "label")
        )
        loss = self.columns.get("loss")
        return [
            ("explained", explained or self._explained_target()),
            ("probability", probability(self.columns.get("probability"))),
            ("the model says", predicted if predicted is not None and predicted != explained else ""),
            ("label", label or ""),
            ("prediction", _numbers(self.columns.get("prediction"))),
            ("target", _numbers(self.columns.get("target"))),
            ("loss", "" if loss is None else f"{number(loss)} nats"),
        ]

    def _explained_target(self) -> str:
        """Return what is explained of targets that are no classes."""
        label, target = self.one.label, self.one.run.dataset.description.target
        names = () if target is None else target.names or ()
        if isinstance(label, int):
            return f"output {names[label] if label < len(names) else label}"
        return "the prediction" if label == "predicted" else "the true target"

    def _unit(self) -> str:
        return "nat" if self.one.measurement == LOSS else ""

    def _meaning(self) -> str:
        """Return in a sentence what effects are."""
        run, measured = self.one.run, self.one.measurement
        what = "raise the loss of this input" if measured == LOSS else f"lower the {measured} of this input"
        how = f"influence / n with n = {run.train_rows:,}"
        if run.config.data.scored is not None:
            turned = "lower the loss of this input" if measured == LOSS else f"raise the {measured} of this input"
            return f"effect: training on the example too would {turned} by about so much ({how})"
        more = any(value is not None for value in self.corrected.values())
        corrected = f"; corrected: the same with the example's own curvature and the {measured} itself" if more else ""
        return f"effect: leaving the example out would {what} by about so much ({how}){corrected}"


def _label(value: Any) -> int | None:
    return None if value is None else int(value)


def _numbers(values: Any) -> str:
    """Return numbers that the model predicts, or is to; an empty text where none is known."""
    if values is None:
        return ""
    shown = [cell(value) for value in (values if isinstance(values, list | tuple) else [values])]
    return " ".join(shown[:12]).strip()

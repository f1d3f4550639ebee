"""What the page says of a run: what was explained and how, what a score means, what was checked."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relatif.pipeline.report.page.media import Kind
from relatif.pipeline.report.page.tables import PageTables
from relatif.pipeline.runs.run import Run
from relatif.schemas import run_directory
from relatif.schemas.methods import METHODS

COLOURS = {"influence": "if", "theta_relatif": "theta", "l_relatif": "ell", "nearest_neighbour": "nearest"}

ABOUT = {
    "influence": "Largest effect on this prediction",
    "theta_relatif": "Largest effect for a step of given length in the parameters",
    "l_relatif": "Most specific to this input",
    "nearest_neighbour": "Closest inputs",
    "gradient_cosine": "Gradients in the same direction",
    "negative_influence": "Largest effect against this prediction",
}

UNITS = {"loss": "nats", "output": "target units", "logit": "logits", "margin": "logits"}

NOUNS: dict[Kind, str] = {"image": "image", "text": "text", "row": "row", "none": "example"}

CURVATURES = {
    "kfac": "K-FAC",
    "ekfac": "EK-FAC",
    "exact": "the exact curvature",
    "identity": "the identity in place of the curvature",
    "cg": "conjugate gradients",
    "lissa": "LiSSA",
}


@dataclass(frozen=True)
class Measured:
    """What is explained: the measurement's name and its unit."""

    name: str
    unit: str

    def effect(self, *, scored: bool) -> str:
        """What leaving a helpful example out does, in words; ``scored`` examples would be trained on instead."""
        is_loss = self.name == "loss"
        of = "the loss of this prediction" if is_loss else f"the {self.name} of this input"
        step = "Training on this example, too, would" if scored else "Removing this example would"
        return f"{step} {'raise' if is_loss != scored else 'lower'} {of}"


def measured(told: Mapping[str, str]) -> Measured:
    """Return what a run's tables say they explain; early ones explain the loss and don't say so."""
    name = told.get("measurement", "loss").split(" of ")[0]
    return Measured(name, UNITS.get(name, name))


def title_of(method: str) -> str:
    """Return a method's name as people write it."""
    return METHODS[method].title.replace("theta-", "θ-").replace("l-RelatIF", "\u2113-RelatIF")


def method_entries(methods: Sequence[str], typical: Mapping[str, int]) -> list[dict[str, object]]:
    """Return the methods of the page's switch."""
    return [
        {
            "name": name,
            "title": title_of(name),
            "color": COLOURS.get(name, "other"),
            "about": ABOUT.get(name, METHODS[name].title),
            "typical": typical[name],
        }
        for name in methods
    ]


def nouns(kind: Kind, *, scored: bool) -> dict[str, list[str]]:
    """Return what examples and inputs are called, one and several; ``scored`` examples were never trained on."""
    what = NOUNS[kind]
    of = "scored" if scored else "training"
    return {"train": [f"{of} {what}", f"{of} {what}s"], "test": [f"test {what}", f"test {what}s"]}


def facts(run: Run, tables: PageTables) -> list[dict[str, str]]:
    """Return what a reader has to know of the numbers: what they are of, what they mean, how they were computed."""
    told, config = tables.told, run.config
    what, count = measured(told), f"{run.train_rows:,}"
    of = told.get("measurement", "loss of the predicted target")
    scored = "" if config.data.scored is None else f" of part {config.data.scored!r}, on which nothing was trained"
    entries = {
        "What was explained": f"The {of}, of {len(tables.test):,} inputs, by {len(tables.train):,} examples{scored}.",
        "What an effect means": f"{what.effect(scored=bool(scored))} by about so many {what.unit}: influence / n, "
        f"n = {count}, to first order. Positive: it helps. Negative: it harms.",
        "How it was computed": f"By {CURVATURES.get(config.curvature.method, config.curvature.method)}, damping "
        f"{config.curvature.effective_damping:g}; Fisher: {told.get('fisher', 'not told')}; "
        f"{told.get('precision', 'float64')}.",
        "Which parameters": f"{_counted(told['covered_parameters'])}." if told.get("covered_parameters") else "",
        "Labels": "" if told.get("labels", "the data's") == "the data's" else f"{told['labels']}.",
    }
    return [{"title": title, "text": text} for title, text in entries.items() if text]


def _counted(text: str) -> str:
    """Return a text of the tables with its plurals."""
    return re.sub(r"\b1 layer\(s\)", "1 layer", text).replace("layer(s)", "layers")


def checks(run: Run, leave_one_out: str | None) -> list[dict[str, str]]:
    """Return what speaks for the numbers and what is open: audit, coverage, retraining, other dampings."""
    record = json.loads(run.store.find_bytes(run_directory.RUN_JSON) or b"{}")
    found = [_audited(record.get("audit") or {}), _covered(run)]
    if leave_one_out is not None:
        found.append({"state": "good", "text": leave_one_out})
    elif run.config.data.scored is None:
        found.append(
            {"state": "none", "text": "No model was retrained without an example, as relatif leave_one_out does."}
        )
    other = "Other dampings and curvatures were not looked at: relatif compare tells how far two runs agree."
    return [each for each in found if each] + [{"state": "none", "text": other}]


def _audited(audit: Mapping[str, Any]) -> dict[str, str]:
    trained = audit.get("trained") or audit.get("untrained")
    if not trained:
        return {"state": "none", "text": "The model was not audited: the run is of an earlier version."}
    largest = max(map(float, trained.get("largest_difference", {}).values()), default=0.0)
    return {
        "state": "good",
        "text": f"The audit passed: what scores assume of the model holds on tried rows, to {largest:.0e}.",
    }


def _covered(run: Run) -> dict[str, str]:
    data = run.store.find_bytes(run_directory.COVERAGE)
    if data is None:
        return {}
    entries = json.loads(data)
    total = sum(entry["count"] for entry in entries)
    missing: dict[str, int] = {}
    for entry in entries:
        if not entry["covered"]:
            missing[entry["reason"]] = missing.get(entry["reason"], 0) + entry["count"]
    if not missing:
        return {"state": "good", "text": f"All {total:,} parameters are covered."}
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in missing.items())
    return {
        "state": "warning",
        "text": f"{total - sum(missing.values()):,} of {total:,} parameters are covered. Not covered: {reasons}.",
    }


def digests(run: Run, told: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the digests of data, model and code."""
    found = {
        "data": run.dataset.fingerprint,
        "model": told.get("checkpoint_sha256", ""),
        "code": told.get("code_version", ""),
    }
    return [{"what": what, "digest": digest} for what, digest in found.items() if digest]

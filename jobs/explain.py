"""Which training examples explain one input: ``python -m relatif.jobs.explain --run OUT --test-index 17``."""

import argparse
import json
from collections.abc import Sequence

from relatif.jobs._ending import add_debug, status_of
from relatif.jobs._modules import find_modules_here
from relatif.pipeline.explaining.explanation import Explanation
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.explaining.query import TEST, TRAIN, Query, query_of_row
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import METHODS

DESCRIPTION = (
    "Tell which training examples explain the model's prediction of one input, by a finished run: no configuration is "
    "needed, and no Ray. Where the run kept gradients (score.gradient_store = true) the answer takes a second, else a "
    "pass over the training set. A training example is explained by all examples, itself among them."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Explain one input; exit status 0, 1 for an error, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    find_modules_here()

    def work() -> None:
        run = open_finished_run(arguments.run)
        found = run.explain(
            _query(run, arguments),
            _label(run, arguments.label),
            methods=arguments.method or None,
            top=arguments.top,
            harms=arguments.top,
            without_itself=arguments.without_itself,
        )
        print(_text(found))
        if arguments.json is not None:
            folder, _, name = arguments.json.rpartition("/")
            open_store(folder or ".").publish_bytes(name, json.dumps(found.as_json(), indent=1).encode() + b"\n")

    return status_of(work, debug=arguments.debug)


def _query(run: FinishedRun, arguments: argparse.Namespace) -> Query:
    """Return the input that the command line names."""
    if arguments.test_index is not None:
        return query_of_row(run, TEST, arguments.test_index)
    return query_of_row(run, TRAIN, arguments.train_index)


def _label(run: FinishedRun, given: str | None) -> str | int | None:
    """Return what is explained: ``predicted``, ``true``, the number of a class by its name, or a number."""
    if given is None or given in ("predicted", "true"):
        return given
    names = run.dataset.class_names
    if given in names:
        return names.index(given)
    if given.isdecimal():
        return int(given)
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise ConfigurationError(
        f"expected --label predicted, true, the name of a class{f' ({shown})' if shown else ''} or a number, found "
        f"{given!r}; correct it"
    )


def _text(found: Explanation) -> str:
    """Return the explanation as lines of text."""
    name = found.class_name(found.explained_label)
    what = found.query.told if found.explained_label is None else f"{found.query.told}, explained as {name}"
    sure = "" if found.probability is None else f" (probability {found.probability:.3g})"
    lines = [f"{what}{sure}"]
    for method, helpers in found.methods.items():
        lines += ["", METHODS[method].title]
        for each in helpers:
            label = found.class_name(each.label) or ""
            effect = "" if each.effect is None else f"  effect {each.effect:+.3g}"
            identity = "" if each.train_id is None else f" ({each.train_id})"
            lines.append(f"  {each.rank:>3}  {each.train_index:>8}{identity}  {label:<12}  {each.score:+.6g}{effect}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="relatif explain", description=DESCRIPTION)
    made.add_argument("--run", required=True, metavar="OUT", help="directory or URL of a finished run")
    asked = made.add_mutually_exclusive_group(required=True)
    asked.add_argument("--test-index", type=int, metavar="I", help="row of the test set, from 0")
    asked.add_argument("--train-index", type=int, metavar="I", help="row of the training set, from 0")
    made.add_argument(
        "--label",
        help="what is explained: predicted, true, or the name or number of a class; by default what the run explained",
    )
    made.add_argument(
        "--method", action="append", choices=list(METHODS), help="may be repeated; by default the methods of the run"
    )
    made.add_argument("--top", type=_positive, default=10, metavar="K", help="how many examples of each method (10)")
    made.add_argument(
        "--without-itself", action="store_true", help="leave a training example out of its own explanation"
    )
    made.add_argument("--json", metavar="FILE", help="also write the explanation as JSON")
    add_debug(made)
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text}")
    return number


if __name__ == "__main__":
    raise SystemExit(main())

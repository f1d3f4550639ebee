"""Which training examples explain one input: ``python -m relatif.jobs.explain --run OUT --test-index 17``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from relatif.jobs._collecting import collect_again
from relatif.jobs._ending import add_debug, leave, status_of
from relatif.jobs._files import publish
from relatif.jobs._modules import find_modules_here
from relatif.pipeline.console import say
from relatif.pipeline.explaining.explanation import Explanation
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.explaining.query import TEST, TRAIN, Query, query_of_row
from relatif.pipeline.showing.shown import Shown
from relatif.pipeline.showing.terminal import console_of, print_explanation
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import METHODS

collect_again()

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
        _refuse(arguments)
        run = open_finished_run(arguments.run)
        found = run.explain(
            _query(run, arguments),
            arguments.label,
            methods=arguments.method or None,
            top=arguments.top,
            harms=arguments.harms,
            without_itself=arguments.without_itself,
        )
        shown = found.shown(arguments.by)
        _print(shown)
        if arguments.json is not None:
            data = json.dumps(found.as_json(arguments.by), indent=1).encode() + b"\n"
            _tell(f"the explanation as JSON: {publish(arguments.json, data)}")
        if arguments.html is not None:
            # Imported here, as below: a page needs the run's tables, a first answer does not.
            from relatif.pipeline.report.page.document import document  # noqa: PLC0415
            from relatif.pipeline.report.page.one_input import page_of_input  # noqa: PLC0415

            page = document(page_of_input(found, arguments.by), title=f"{run.config.task}: {_title(found)}")
            _tell(f"the page: {publish(arguments.html, page.encode('utf-8'))}")
        if arguments.png is not None:
            # Imported here: drawing takes a second to load, and a first answer less.
            from relatif.pipeline.report.explanation_figure import explanation_png  # noqa: PLC0415

            _tell(f"the picture: {publish(arguments.png, explanation_png(shown))}")

    status = status_of(work, debug=arguments.debug)
    return leave(status) if argv is None else status


def _refuse(arguments: argparse.Namespace) -> None:
    """Refuse what is wrong whatever the run is, before anything of it is loaded."""
    if arguments.invert != "auto" and arguments.input is None:
        raise ConfigurationError("expected --invert beside --input, found no picture; leave it out")
    if arguments.row is not None:
        # Imported here, as below.
        from relatif.pipeline.explaining.given import parsed_row  # noqa: PLC0415

        parsed_row(arguments.row, "--row")


def _query(run: FinishedRun, arguments: argparse.Namespace) -> Query:
    """Return the input that the command line names."""
    invert = {"auto": None, "yes": True, "no": False}[arguments.invert]
    if arguments.test_index is not None:
        return query_of_row(run, TEST, arguments.test_index)
    if arguments.train_index is not None:
        return query_of_row(run, TRAIN, arguments.train_index)
    # Imported here: readers of pictures and tables take a while to load, and a row of the run needs none.
    from relatif.pipeline.explaining.given import given_file, given_row, given_text, parsed_row  # noqa: PLC0415

    if arguments.input is not None:
        return given_file(run, arguments.input, invert=invert).query
    if arguments.text is not None:
        return given_text(run, arguments.text).query
    return given_row(run, parsed_row(arguments.row, "--row")).query


def _print(shown: Shown) -> None:
    console = console_of()
    with console.capture() as captured:
        print_explanation(shown, console)
    try:
        print(captured.get(), end="", flush=True)
    except BrokenPipeError:
        # Whoever reads has seen enough; Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _title(found: Explanation) -> str:
    """Return what the page is about: the input, and of another class than the model's answer what speaks for it."""
    asked = found.class_name(found.explained_label)
    if asked is None or found.explained_label == found.predicted_label:
        return found.query.told
    return f"what speaks for {asked}, {found.query.told}"


def _tell(text: str) -> None:
    """Tell which file was written, to whoever still reads."""
    # As above: both streams may go to a reader that has seen enough.
    with suppress(BrokenPipeError):
        say(text)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="relatif explain", description=DESCRIPTION)
    made.add_argument("--run", required=True, metavar="OUT", help="directory or URL of a finished run")
    _add_inputs(made.add_mutually_exclusive_group(required=True))
    made.add_argument(
        "--invert", choices=("auto", "yes", "no"), default="auto",
        help="exchange light and dark of a grey picture; by default where its ground is light and the data's dark, or "
        "the other way round",
    )  # fmt: skip
    made.add_argument(
        "--label",
        help="what is explained: predicted, true, or a class by its name, else by its number; by default what the run "
        "explained",
    )
    made.add_argument(
        "--method", action="append", choices=list(METHODS), help="may be repeated; by default the methods of the run"
    )
    made.add_argument("--top", type=_positive, default=10, metavar="K", help="how many examples of each method (10)")
    made.add_argument("--harms", type=_count, default=3, metavar="K", help="how many examples that harm (3)")
    made.add_argument(
        "--without-itself", action="store_true", help="leave a training example out of its own explanation"
    )
    made.add_argument(
        "--by", choices=("layer", "token"), help="split scores by layer, or by token of a training example's text"
    )
    made.add_argument("--json", metavar="FILE", help="also write the explanation as JSON")
    made.add_argument("--html", metavar="FILE", help="also write a page of it, which opens from disk")
    made.add_argument("--png", metavar="FILE", help="also draw the input and the first examples by each method")
    add_debug(made)
    return made


def _add_inputs(asked: "argparse._MutuallyExclusiveGroup") -> None:
    asked.add_argument("--test-index", type=int, metavar="I", help="row of the test set, from 0")
    asked.add_argument("--train-index", type=int, metavar="I", help="row of the training set, from 0")
    asked.add_argument("--input", metavar="FILE", help="a picture (PNG, JPEG), or one row in a .json or .jsonl file")
    asked.add_argument("--text", help="a text, as the data's are")
    asked.add_argument("--row", metavar="JSON", help='a row of a table, such as {"age": 41, "member": true}')


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a number from 0, found {text}")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text}")
    return number


if __name__ == "__main__":
    raise SystemExit(main())

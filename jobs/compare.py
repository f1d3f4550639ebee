"""How far the explanations of finished runs agree: ``python -m jobs.compare OUT OUT ...``."""

import argparse
import io
from collections.abc import Sequence

from pyarrow import csv

from relatif.jobs._ending import add_debug, status_of
from relatif.jobs._files import publish
from relatif.pipeline.report.comparing import compare, comparison_text, open_compared
from relatif.pipeline.report.page.comparison import comparison_page

DESCRIPTION = (
    "Compare the explanations of two and more finished runs of the same data: of other curvatures, dampings, seeds or "
    "models. Overlap is the share of examples that both have among the first of an input; the rank correlation is that "
    "of all examples which either has."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print how far runs agree; exit status 0, 1 for an error, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        runs = [open_compared(out) for out in arguments.runs]
        found = compare(runs, top=arguments.top)
        print(comparison_text(found))
        if arguments.csv is not None:
            buffer = io.BytesIO()
            csv.write_csv(found, buffer)
            print(f"\ninput by input: {publish(arguments.csv, buffer.getvalue())}")
        if arguments.html is not None:
            page = comparison_page(runs, found)
            print(f"\nthe page: {publish(arguments.html, page.encode())}")

    return status_of(work, debug=arguments.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relatif compare", description=DESCRIPTION)
    parser.add_argument("runs", nargs="+", metavar="OUT", help="directories or URLs of finished runs")
    parser.add_argument("--top", type=int, metavar="K", help="examples of each input; by default all that both list")
    parser.add_argument("--csv", metavar="FILE", help="also write a row for each pair of runs, method and input")
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="also write a page: agreement by method, and the inputs on which runs differ most",
    )
    add_debug(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

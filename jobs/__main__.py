"""The command ``relatif JOB ...``: the same as ``python -m relatif.jobs.JOB ...``."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import cast

JOBS = {
    "run": "run all stages, or continue a stopped run",
    "train": "train the task's model",
    "factors": "build the curvature's factors",
    "score": "score test inputs against training examples",
    "statistics": "aggregate the paper's statistics",
    "evaluate": "evaluate the explanations of a finished run",
    "leave_one_out": "retrain without the best example of every method",
    "explain": "tell which training examples explain one input of a finished run",
    "report": "make the page of a finished run",
    "compare": "tell how far the explanations of finished runs agree",
    "export": "write a table of a finished run, with names and texts, as CSV, JSON Lines or Parquet",
    "check": "look at a run before it is made, or verify a finished one",
    "prepare": "turn published data files into Parquet shards",
    "toy": "the paper's Fig. 1 on made-up data",
    "bench": "time the score stage against a bare matrix product",
}
"""Jobs by name, each a module of this package, with what it does."""

WRONG_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job that the first word names; exit status 0 or that of the job, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if not words or words[0] not in JOBS:
        found = repr(words[0]) if words else "none"
        print(f"error: expected a job ({', '.join(JOBS)}), found {found}; see relatif --help", file=sys.stderr)
        return WRONG_USAGE
    job = import_module(f"relatif.jobs.{words[0]}")
    # A job that ends this process itself is told that it may, by leaving the words to it.
    if argv is None and words[0] == "explain":
        sys.argv = [sys.argv[0], *words[1:]]
        return cast(int, job.main())
    return cast(int, job.main(words[1:]))


def usage() -> str:
    """Return what ``relatif --help`` prints."""
    lines = "\n".join(f"  {name:<14} {meaning}" for name, meaning in JOBS.items())
    return f"usage: relatif JOB ...\n\n{lines}\n\nrelatif JOB --help tells a job's options."


if __name__ == "__main__":
    raise SystemExit(main())

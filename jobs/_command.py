"""The command line that all stage jobs share."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relatif.jobs._ending import add_debug, status_of
from relatif.jobs._modules import find_modules_here
from relatif.jobs._settings import settings_help
from relatif.pipeline.console import say
from relatif.pipeline.datasets.labels import PUBLISHED
from relatif.pipeline.datasets.published import open_source, read_once
from relatif.pipeline.preflight.looking import look_before_preparing, look_first
from relatif.pipeline.report.paper import EXPERIMENT_OF_TASK
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.running import Before, Choice, run_stages
from relatif.pipeline.stages.statistics import STATISTICS, holds_only_tables, statistics_of_tables
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.store import Store
from relatif.schemas.config import RunConfig
from relatif.schemas.reading import load_config

INSTALLED = Path(__file__).resolve().parent.parent
"""Where this distribution lies: the repository, or a folder of installed packages."""

JOB_FOLDER = "working_dir_files"
"""Part of the path in which Ray unpacks a submitted job's working directory, and which it deletes later."""


@dataclass(frozen=True)
class Results:
    """Where a finished job left its tables, their task, and the run (None where there are only tables)."""

    store: Store
    task: str
    run: Run | None = None

    @property
    def paper(self) -> str | None:
        """The paper's experiment that these results compare with: none where labels were merged or flipped."""
        as_published = self.run is None or self.run.dataset.labelling == PUBLISHED
        return EXPERIMENT_OF_TASK.get(self.task) if as_published else None


def _nothing(_: Results) -> None:
    """Show nothing."""


def run_command(
    name: str, choose: Choice, argv: Sequence[str] | None, description: str, show: Callable[[Results], None] = _nothing
) -> int:
    """Parse the command line, run the stages that ``choose(run)`` returns, show the results; return the exit status."""
    arguments = parser(name, description).parse_args(argv)
    find_modules_here()

    def work() -> None:
        config = configured(arguments)
        _warn_of_lost_output(arguments.out)
        if name == STATISTICS.name and holds_only_tables(arguments.out):
            show(Results(statistics_of_tables(config, arguments.out), config.task))
        else:
            read = read_once()
            found = look_before_preparing(config, arguments.out, choose, WHOLE_RUN, read)
            before = Before(look_first, partial(open_source, read=read), found)
            run = run_stages(config, arguments.out, choose, known=WHOLE_RUN, before=before)
            show(Results(run.store, config.task, run))

    return status_of(work, debug=arguments.debug)


def installed(path: str, folder: str) -> str:
    """Return ``path``, or, where nothing is there, the same path below the installation if it lies in ``folder``.

    A script that Ray copied to a cluster runs outside the repository; ``jobs/configs/mnist_logistic.toml`` and
    ``data/mnist`` still mean what was installed there.
    """
    elsewhere = INSTALLED / path
    inside = Path(path).is_relative_to(folder) and ".." not in Path(path).parts
    return str(elsewhere) if inside and not Path(path).exists() and elsewhere.exists() else path


def configured(arguments: argparse.Namespace) -> RunConfig:
    """Return the configuration that ``--config`` and ``--set`` give; both it and its data may lie in the installation.

    ``data.source`` is looked for below the installation where it is not found here. Raises as ``load_config``.
    """
    config = load_config(installed(arguments.config, "jobs/configs"), arguments.set)
    source = installed(config.data.source, "data")
    return config.model_copy(update={"data": config.data.model_copy(update={"source": source})})


def parser(name: str, description: str, *, required: bool = True) -> argparse.ArgumentParser:
    """Return the parser of ``--config``, ``--out`` and ``--set``, whose help lists all settings."""
    made = argparse.ArgumentParser(
        prog=f"relatif {name}",
        description=description,
        epilog=settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--config", required=required, help="TOML file, for example jobs/configs/mnist_logistic.toml")
    made.add_argument("--out", required=required, help="directory or fsspec URL of the run")
    made.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="override a setting; may be repeated"
    )
    add_debug(made)
    return made


def _warn_of_lost_output(out: str) -> None:
    relative = "://" not in out and not os.path.isabs(out)
    if relative and JOB_FOLDER in os.getcwd():
        say(
            f"warning: --out {out} lies in the working directory of a submitted job, {os.getcwd()}, which Ray deletes "
            f"later; give an absolute path or a URL to keep the results"
        )

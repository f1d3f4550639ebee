"""Look at everything that can be known before the work: ``python -m jobs.check --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import find_modules_here, installed, parser, with_installed_data
from relatif.jobs._ending import status_of
from relatif.pipeline.preflight.looking import look
from relatif.pipeline.preflight.opening import opened
from relatif.pipeline.preflight.text import plan_text
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.schemas.reading import load_config


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan of a run; exit status 0, 1 where a run would be refused, 2 for wrong usage."""
    arguments = parser(
        "check", "Look at a run before it is made: nothing is written, and no Ray is started."
    ).parse_args(argv)
    find_modules_here()

    def work() -> None:
        config = with_installed_data(load_config(installed(arguments.config, "jobs/configs"), arguments.set))
        with opened(config, arguments.out) as run:
            print(plan_text(look(run, WHOLE_RUN)))

    return status_of(work, debug=arguments.debug)


if __name__ == "__main__":
    raise SystemExit(main())

"""Time the score stage against the matrix product it would be without screening: ``python -m jobs.bench``.

With ``--explain OUT`` it times explaining further inputs of a finished run instead.

Both run on all cores of this machine, in one call of this command: the product before and after the stage.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from functools import partial

import torch

from relatif.jobs._command import configured
from relatif.jobs._ending import add_debug, status_of
from relatif.jobs._explain_bench import time_explaining
from relatif.pipeline.cluster.session import session
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.running import run_stages
from relatif.pipeline.runs.stage import Proofs
from relatif.pipeline.stages.factors import FACTORS
from relatif.pipeline.stages.score import SCORE
from relatif.pipeline.stages.train import TRAIN
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.tasks.task import load_task
from relatif.schemas import run_directory

CONFIG = "jobs/configs/mnist_logistic.toml"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the wall time of both and their ratio; exit status 0, 1 for an error, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="relatif bench", description="Score stage against torch.mm, or explaining.")
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--out", default="runs/bench", help="directory of the benchmark's run")
    parser.add_argument("--repeats", type=_positive, default=1, help="timed repetitions of the score stage")
    parser.add_argument(
        "--explain",
        metavar="OUT",
        help="time relatif explain on a finished run instead: a first answer and further ones",
    )
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    add_debug(parser)
    arguments = parser.parse_args(argv)
    work = partial(time_explaining, arguments.explain) if arguments.explain else partial(_measure, arguments)
    return status_of(work, debug=arguments.debug)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def _measure(arguments: argparse.Namespace) -> None:
    config = configured(arguments)
    run = run_stages(config, arguments.out, lambda _: [TRAIN, FACTORS], known=WHOLE_RUN)
    shape = (run.test_rows, _parameters(run), run.train_rows)
    products, stages = [_bare_product(shape)], []
    for _ in range(arguments.repeats):
        stages.append(_score_stage(run, arguments.out))
        products.append(_bare_product(shape))
    product, stage = statistics.mean(products), statistics.mean(stages)
    print(f"torch {torch.__version__}, {os.cpu_count()} cores")
    print(f"bare torch.mm, float32, {' x '.join(map(str, shape))}: {_listed(products)}, mean {product:.1f} s")
    print(f"score stage: {_listed(stages)}, mean {stage:.1f} s")
    print(f"score stage / torch.mm: {stage / product:.3f}")


def _score_stage(run: Run, out: str) -> float:
    """Score anew, with Ray already up, and return the stage's wall time: actors' start, Parquet and joins included."""
    run.store.delete(run_directory.stage_manifest("score"))
    run.store.delete(run_directory.SCORE_WORK)
    run.store.delete(run_directory.TABLES)
    with session(run.config.cluster) as cluster:
        proofs = Proofs(open_run(run.config, out))
        started = time.perf_counter()
        proofs.make(SCORE, cluster)
        return time.perf_counter() - started


def _bare_product(shape: tuple[int, int, int]) -> float:
    """Return the seconds of one product in a process of its own, so that its memory goes back before the next."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_product_seconds, shape)


def _product_seconds(test_rows: int, parameters: int, train_rows: int) -> float:
    torch.set_num_threads(os.cpu_count() or 1)
    left, right = torch.randn(test_rows, parameters), torch.randn(train_rows, parameters)
    # Not timed: the first product also starts the threads.
    torch.mm(left[:1000], right[:1000].T)
    started = time.perf_counter()
    torch.mm(left, right.T)
    return time.perf_counter() - started


def _parameters(run: Run) -> int:
    return sum(parameter.numel() for parameter in load_task(run.config.task).build_model().parameters())


def _listed(seconds: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in seconds) + " s"


if __name__ == "__main__":
    raise SystemExit(main())

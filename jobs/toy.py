"""The paper's Fig. 1 on made-up data: ``python -m jobs.toy --out runs/toy`` prepares, runs all stages and draws."""

import argparse
from collections.abc import Sequence

from relatif.jobs._command import installed
from relatif.jobs._ending import add_debug, status_of
from relatif.pipeline.datasets.description import Split
from relatif.pipeline.datasets.shards import PreparedDataset, read_shard
from relatif.pipeline.datasets.toy import OUTLIER_INDEX, RESOLUTION, prepare_toy
from relatif.pipeline.inputs import features
from relatif.pipeline.preflight.looking import refuse_what_does_not_fit
from relatif.pipeline.report.page.making import make_report
from relatif.pipeline.report.plane import Plane, draw_plane, plane_text, read_plane
from relatif.pipeline.runs.running import Before, run_stages
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.reading import load_config

CONFIG = "jobs/configs/toy_logistic.toml"


def main(argv: Sequence[str] | None = None) -> int:
    """Print which examples explain the plane and draw them; exit status 0, 1 for an error, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        out = open_store(arguments.out)
        data = out.child(run_directory.DATA)
        config = load_config(installed(arguments.config, "jobs/configs"), [*arguments.set, f"data.source={data.url}"])
        dataset = prepare_toy(data, seed=arguments.seed, resolution=arguments.resolution)
        run = run_stages(config, arguments.out, lambda _: WHOLE_RUN, before=Before(refuse_what_does_not_fit))
        plane = _plane(out, data, dataset)
        out.publish_bytes(run_directory.PLANE, draw_plane(plane))
        print(f"{plane_text(plane)}\n\nfigure: {out.describe(run_directory.PLANE)}")
        print(make_report(run).text)

    return status_of(work, debug=arguments.debug)


def _plane(out: Store, data: Store, dataset: PreparedDataset) -> Plane:
    splits: tuple[Split, Split] = ("train", "test")
    points, grid = (
        features(read_shard(data, dataset, dataset.shards(split, rows=dataset.rows(split))[0]).inputs).numpy()
        for split in splits
    )
    return read_plane(out.child(run_directory.TABLES), points, grid, outlier=OUTLIER_INDEX)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relatif toy", description="The paper's Fig. 1 on made-up data.")
    parser.add_argument("--out", required=True, help="directory or fsspec URL of the run")
    parser.add_argument("--config", default=CONFIG, help="TOML file; its data.source is not used")
    parser.add_argument("--seed", type=int, default=0, help="decides the training examples")
    parser.add_argument("--resolution", type=int, default=RESOLUTION, help="points on each side of the grid")
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="override a setting; may be repeated"
    )
    add_debug(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

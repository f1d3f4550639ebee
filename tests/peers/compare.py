"""Compare this project's influence with kronfluence's: ``make peers``.

The same checkpoint, examples and damping, the empirical Fisher, all M x N pairs; real data. Exit status 0 only when
every correlation reaches ``LEAST``.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from by_kronfluence import Judge, judge_of
from explained import METHODS, ROOT, TEST_ROWS, TRAIN_ROWS, Case, Explained, explain, prepare
from torch import Tensor

from relatif.schemas.errors import DataError, RelatifError

LEAST = 0.9999
"""The smallest correlation that passes."""

MLP = partial(Case, "MLP", "jobs/configs/mnist_logistic.toml", "mnist_mlp:mnist_mlp")
CONVNET = partial(Case, "ConvNet", "jobs/configs/cifar_convnet.toml", "cifar_convnet")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the correlations and return the exit status."""
    parser = argparse.ArgumentParser(prog="make peers", description="Influence compared with kronfluence's.")
    parser.add_argument("--cifar10", default="../shared/data/cifar10", help="CIFAR-10 as train.parquet, test.parquet")
    parser.add_argument("--damping", type=float, default=1e-3, help="of both libraries and models")
    arguments = parser.parse_args(argv)
    try:
        source = cifar10(arguments.cifar10)
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            out = Path(folder)
            prepare("image_parquet", source, out / "cifar10")
            found = [
                *compare(MLP(arguments.damping), ROOT / "data/mnist", out / "mlp"),
                *compare(CONVNET(arguments.damping), out / "cifar10", out / "convnet"),
            ]
    except RelatifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    passed = all(value >= LEAST for value in found)
    print(f"{'all' if passed else 'NOT all'} of {len(found)} correlations reach {LEAST}")
    return 0 if passed else 1


def cifar10(path: str) -> Path:
    """Return the folder of CIFAR-10; DataError where it is not there."""
    folder = (ROOT / path).resolve()
    missing = [name for name in ("train.parquet", "test.parquet") if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"expected CIFAR-10 as train.parquet and test.parquet in {folder}, found no {' and no '.join(missing)}; "
            f"name their folder: make peers CIFAR10=FOLDER"
        )
    return folder


def compare(case: Case, data: Path, out: Path) -> list[float]:
    """Print how a model's scores agree, and return the correlations that have to reach ``LEAST``."""
    explained = explain(case, data, out)
    judge = judge_of(explained.model, explained.train, explained.test, out / "kronfluence")
    parameters = sum(parameter.numel() for parameter in explained.model.parameters())
    print(f"{case.name}: {parameters:,} parameters, {TRAIN_ROWS:,} x {TEST_ROWS} pairs, damping {case.damping:g}")
    for strategy in (*METHODS, "identity"):
        judge.fit(strategy)
    plain = judge.influence("identity", case.damping)
    found = []
    for method in METHODS:
        ours, theirs = explained.influence[method], judge.influence(method, case.damping)
        if method == "kfac" and max(judge.positions.values()) > 1:
            print(f"  {method:6} as kronfluence scales convolutions: {_agreement(ours, theirs)}")
            _print_traces(explained, judge)
            theirs = judge.expand_form(case.damping)
        found.append(correlation(ours, theirs))
        print(f"  {method:6} {_agreement(ours, theirs)}; with no curvature {correlation(ours, plain):.6f}")
    return found


def correlation(ours: Tensor, theirs: Tensor) -> float:
    """Return Pearson's correlation over all pairs."""
    return float(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]).double())[0, 1])


def _agreement(ours: Tensor, theirs: Tensor) -> str:
    slope = float((ours * theirs).sum() / theirs.square().sum())
    largest = float((ours - theirs).abs().max() / ours.abs().max())
    return f"correlation {correlation(ours, theirs):.10f}, slope {slope:.8f}, largest difference {largest:.1e} of max"


def _print_traces(explained: Explained, judge: Judge) -> None:
    """Print, for each layer, K-FAC's trace over that of the Fisher's block, which EK-FAC's spectrum has exactly."""
    for name, count in judge.positions.items():
        ratio = float(explained.spectra["kfac"][name].sum() / explained.spectra["ekfac"][name].sum())
        print(f"         {name}: T = {count}, trace of K-FAC / Fisher {ratio:.3f}, kronfluence's {ratio / count:.5f}")


if __name__ == "__main__":
    raise SystemExit(main())

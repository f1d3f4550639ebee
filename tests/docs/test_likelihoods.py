"""docs/likelihoods.md: its likelihood of one's own is shown as it is, is that distribution, and passes all checks."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
import torch
from torch import Tensor

from relatif.jobs.__main__ import main
from relatif.pipeline.curvature.examples import Examples
from tests.docs.test_tasks import example
from tests.support.example_scores import Reference, assert_agree, pipeline_scores, reference_scores
from tests.support.likelihoods import DRAWS
from tests.support.own_tasks import EXAMPLES
from tests.support.runs import ROOT

GUIDE = (ROOT / "docs/likelihoods.md").read_text(encoding="utf-8")
DAMPING, ENOUGH = 0.01, 60


@pytest.fixture
def counts() -> ModuleType:
    return example("counts")


def rates() -> Tensor:
    return torch.tensor([[-1.0], [0.3], [2.5]], dtype=torch.float64)


def every_count(outputs: Tensor) -> Iterator[tuple[Tensor, float]]:
    """Yield every count with its probability, as torch has it."""
    found = torch.distributions.Poisson(outputs.detach()[0, 0].exp())
    for count in torch.arange(ENOUGH, dtype=torch.float64):
        yield count[None, None], float(found.log_prob(count).exp())


def test_it_is_shown_as_it_is() -> None:
    shown = re.findall(r"^<!-- file: (.*?) -->\n```\w+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in shown] == ["docs/examples/counts.py"]
    for name, text in shown:
        assert text == (ROOT / name).read_text(encoding="utf-8")


def test_it_is_the_poisson_distribution(counts: ModuleType) -> None:
    likelihood, outputs = counts.Poisson(), rates()
    for targets in (torch.tensor([[0.0], [2.0], [9.0]]).double(), torch.tensor([[5.0], [0.0], [30.0]]).double()):
        expected = -torch.distributions.Poisson(outputs.exp()).log_prob(targets)[:, 0]
        torch.testing.assert_close(likelihood.losses(outputs, targets), expected)
    ((targets, weights),) = likelihood.expectation(outputs)
    moments = [sum(share * float(row.exp() - count) ** 2 for count, share in every_count(row[None])) for row in outputs]
    found = weights * likelihood.gradient(outputs, targets)[:, 0].square()
    torch.testing.assert_close(found, torch.tensor(moments, dtype=torch.float64))


def test_its_draws_have_its_probabilities(counts: ModuleType) -> None:
    torch.manual_seed(0)
    outputs = torch.full((DRAWS, 1), 0.3, dtype=torch.float64)
    drawn = counts.Poisson().sample(outputs, torch.rand(DRAWS).double())
    shares = drawn[:, 0].long().bincount(minlength=ENOUGH).double() / DRAWS
    expected = torch.tensor([share for _, share in every_count(outputs[:1])], dtype=torch.float64)
    assert (shares - expected).abs().max() < 5 * (0.25 / DRAWS) ** 0.5  # five standard errors of the likeliest


def write_visits(folder: Path, *, rows: int = 40) -> None:
    generator = np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", rows), ("test", 6)):
        degrees = generator.normal(15, 8, count).round(1)
        days = generator.integers(0, 7, count)
        visits = generator.poisson(np.exp(0.5 + degrees / 30 + (days > 4)))
        names = np.array(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])[days]
        pa_csv.write_csv(pa.table({"day": names, "degrees": degrees, "visits": visits}), folder / f"{part}.csv")


def test_it_passes_the_checks_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("counts.py", "counts.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    write_visits(tmp_path / "visits")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "counts", raising=False)
    status = main(["check", "--config", "counts.toml", "--out", "runs/counts"])
    monkeypatch.delitem(sys.modules, "counts")
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "own as float32 [8]; targets float32 [1]" in printed.err
    assert "total probability" in printed.out
    assert "output of the predicted target" in printed.out


def test_its_scores_are_those_of_the_explicit_inverse(counts: ModuleType, tmp_path: Path) -> None:
    write_visits(tmp_path / "visits")
    read = {
        part: counts.read(pa_csv.read_csv(tmp_path / f"visits/{part}.csv").combine_chunks().to_batches()[0])
        for part in ("train", "test")
    }
    torch.manual_seed(0)
    model = counts.model().double().eval()
    train, test = (Examples(each.inputs.double(), each.targets, 0) for each in read.values())

    found = pipeline_scores(model, counts.Poisson(), train, test, DAMPING, measurement="output")

    def entropy(outputs: Tensor, target: Tensor) -> Tensor:
        return -torch.distributions.Poisson(outputs[0, 0].exp()).log_prob(target.double()[0, 0])

    measured = Reference(model, lambda outputs, _: -outputs.sum(), every_count)
    expected = reference_scores(
        Reference(model, entropy, every_count),
        (train.inputs, train.targets),
        test.inputs,
        DAMPING,
        lambda outputs: outputs,
        measured=measured,
    )
    assert_agree(found, expected)

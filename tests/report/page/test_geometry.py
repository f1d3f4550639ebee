"""Projections and cosines of the panel, against gradients that are whitened one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from relatif.pipeline.curvature.eigen import side_by_side
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.report.page import geometry as module
from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.deepening import engine_for, size_of_run
from relatif.pipeline.report.page.geometry import Geometry, geometry, placed
from relatif.pipeline.report.page.sources import Source, source_of
from relatif.pipeline.report.page.tables import Examples
from relatif.pipeline.runs.opening import open_finished
from tests.support.explained_runs import TRAINING, finished


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(open_finished(str(finished(tmp_path_factory.mktemp("geometry"), "exact"))))


@pytest.fixture(scope="module")
def engine(source: Source) -> Engine:
    found = engine_for(source.run, size_of_run(source.run))
    assert found is not None
    return found


def whitened(engine: Engine, part: str, rows: list[int]) -> np.ndarray:
    """Return gradients in the basis in which the inverse curvature is the identity, [R, P]."""
    found = engine.rows(part, rows, "true" if part == "train" else None).gradients
    inverse = torch.cat([engine.explainer.curvature.inverse(name).flatten() for name in found])
    return (side_by_side(found).dense().flatten(1).double() * inverse.double().sqrt()).numpy()


def test_points_are_lengths_and_angles_of_whitened_gradients(
    source: Source, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWN", 40)
    places = np.arange(6)
    found = geometry(source, places, engine)
    assert isinstance(found, Geometry)
    train = whitened(engine, "train", list(range(TRAINING)))
    for cloud in found.clouds:
        (own,) = whitened(engine, "test", [cloud.test])
        for points in (cloud.points, *cloud.first.values()):
            projection = train[points.rows] @ own / np.linalg.norm(own)
            cosine = projection / np.linalg.norm(train[points.rows], axis=1)
            assert points.projection == pytest.approx(projection, rel=1e-4, abs=1e-9)
            assert points.cosine == pytest.approx(cosine, rel=1e-4, abs=1e-9)
        assert len(cloud.points.rows) == 40
        every_projection = train @ own
        every_cosine = every_projection / np.linalg.norm(train, axis=1)
        assert cloud.first["influence"].rows[0] == every_projection.argmax()
        assert cloud.first["l_relatif"].rows[0] == every_cosine.argmax()


def test_the_page_has_positions_and_rounded_numbers(source: Source, engine: Engine) -> None:
    found, train, test = geometry(source, np.arange(6), engine), Positions(), Positions()
    assert found is not None
    shown = found.json(train, test)["clouds"]
    for cloud, drawn in zip(found.clouds, shown, strict=True):
        assert test.rows[drawn["test"]] == cloud.test
        assert np.array(drawn["points"]) == pytest.approx(
            np.stack([cloud.points.cosine, cloud.points.projection], axis=1), rel=1e-5, abs=6e-5
        )
        for method, points in cloud.first.items():
            first = drawn["first"][method]
            assert [train.rows[position] for position in first["train"]] == points.rows.tolist()
            assert len(first["points"]) == len(first["train"])


def test_a_gradient_of_length_zero_is_no_point() -> None:
    train = Examples(np.arange(3), {"self_influence": np.array([4.0, 0.0, 1.0], np.float32)}, {})
    found = placed(np.array([3.0, 0.0, -1.5]), np.arange(3), train, 2.25)
    # A rounded column may make a cosine a little more than 1.
    assert found.pairs() == [[1.0, 2], [-1.0, -1]]


def test_a_run_without_the_methods_has_no_panel(tmp_path: Path, engine: Engine) -> None:
    alone = finished(tmp_path, "logistic", 'score.methods=["influence"]')
    assert geometry(source_of(open_finished(str(alone))), np.arange(3), engine) is None

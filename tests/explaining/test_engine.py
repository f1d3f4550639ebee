"""The query engine: what it finds equals the table top_k, and what is no table's is compared with its definition."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from torch import Tensor

from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.engine import Engine, load_engine
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.inputs import features
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import METHODS
from tests.support.explained_runs import KINDS, TESTS, TRAINING, K, finished

DTYPES = (None, "bfloat16", "float32")
"""No store, and stores of both types."""

EVERY = [kind if dtype is None else f"{kind}, {dtype}" for kind in KINDS for dtype in DTYPES]

SOLVED = "cg"
"""The kind of run whose numerators are solved for: a solution depends a little on those that are made with it."""

SUMS = 1e-5
"""Share of the largest score by which solutions that are made with others differ."""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    """An engine for a run of every kind."""
    folder = tmp_path_factory.mktemp("finished")
    made = {}
    for kind in KINDS:
        for dtype in DTYPES:
            kept = () if dtype is None else ("score.gradient_store=true", f"score.gradient_store_dtype={dtype}")
            run = open_finished_run(finished(folder, kind, *kept, name=f"{kind}, {dtype}"))
            made[name_of(kind, dtype)] = load_engine(run, Worker(2))
    return made


def name_of(kind: str, dtype: str | None) -> str:
    return kind if dtype is None else f"{kind}, {dtype}"


def table(engine: Engine, method: str, tests: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and scores [M, K] of the table top_k."""
    rows = engine.run.table("top_k").filter(pc.field("method") == method)
    rows = rows.sort_by([("test_index", "ascending"), ("rank", "ascending")])
    indices, scores = (rows[name].to_numpy().reshape(TESTS, K) for name in ("train_index", "score"))
    return indices[tests], scores[tests]


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_found_is_what_the_table_holds(engines: dict[str, Engine], kind: str) -> None:
    engine, tests = engines[kind], [3, 29, 0, 17]
    found = engine.best(engine.rows("test", tests), list(METHODS), k=K)
    assert list(found.best) == list(METHODS)
    for method, ranks in found.best.items():
        indices, scores = table(engine, method, tests)
        if not kind.startswith(SOLVED) or method == "nearest_neighbour":
            assert (ranks.indices.numpy() == indices).all(), method
            assert (ranks.scores.numpy() == scores).all(), method
        else:
            close = np.abs(ranks.scores.numpy() - scores) <= SUMS * np.abs(scores).max(axis=1, keepdims=True)
            assert close.all(), method
            assert (ranks.indices.numpy() == indices).mean() > 0.97, method


def test_kept_gradients_find_the_same_as_a_pass(engines: dict[str, Engine]) -> None:
    passing = load_engine(engines["logistic, bfloat16"].run, Worker(2), use_kept=False)
    kept = passing.by_kept()
    assert (passing.training.is_stored, kept.training.is_stored) == (False, True)
    queries = passing.rows("test", [3, 29, 0, 17])
    expected, found = (each.best(queries, ["influence", "l_relatif"], k=K).best for each in (passing, kept))
    for method, ranks in expected.items():
        assert torch.equal(found[method].indices, ranks.indices)
        assert torch.equal(found[method].scores, ranks.scores)
    assert kept.by_kept() is kept
    assert engines["logistic"].by_kept() is engines["logistic"]


def every_score(engine: Engine, queries: object) -> Tensor:
    """Return influence of all training examples, [M, n] float64, by the engine's pairs."""
    rows = torch.arange(TRAINING).expand(len(queries), TRAINING)  # type: ignore[arg-type]
    return engine.influence(queries, rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["logistic", "positions", "cg", "positions, bfloat16", "exact, float32"])
def test_more_ranks_and_the_lowest_are_those_of_all_scores(engines: dict[str, Engine], kind: str) -> None:
    engine = engines[kind]
    queries = engine.rows("test", [5, 4])
    scores = every_score(engine, queries)
    found = engine.best(queries, ["influence"], k=50, lowest=60)
    for ranks, descending in ((found.best["influence"], True), (found.lowest["influence"], False)):
        expected = scores.sort(dim=1, descending=descending).values[:, : ranks.k]
        assert torch.allclose(ranks.scores.double(), expected, rtol=1e-5, atol=1e-5 * float(scores.abs().max()))
    assert found.best["influence"].k == 50
    assert found.lowest["influence"].k == 60


@pytest.mark.parametrize("method", ["influence", "theta_relatif", "l_relatif", "gradient_cosine"])
@pytest.mark.parametrize("kind", ["logistic", "logistic, float32"])
def test_a_histogram_counts_every_score(engines: dict[str, Engine], method: str, kind: str) -> None:
    engine = engines[kind]
    queries = engine.rows("test", [1, 2, 8])
    everything = engine.best(queries, [method], k=TRAINING).best[method].scores.numpy()
    found = engine.best(queries, [method], k=1, lowest=1, histograms=True)
    histogram = found.histograms[method]
    for query, scores in enumerate(everything):
        counts, _ = np.histogram(scores.astype(float), bins=64, range=(scores.min(), scores.max()))
        # Borders are as near as float32 rounding: at most a score or two may lie on the other side.
        assert np.abs(counts - histogram.counts[query].numpy()).sum() <= 4
        assert int(histogram.counts[query].sum()) == TRAINING
        assert int(histogram.above[query]) == (scores > 0).sum()
        assert int(histogram.below[query]) == (scores < 0).sum()
        assert float(histogram.low[query]) == pytest.approx(scores.min(), rel=1e-5)
        assert float(histogram.high[query]) == pytest.approx(scores.max(), rel=1e-5)


def test_blocks_of_queries_change_nothing(engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engines["logistic"]
    queries = engine.rows("test", list(range(9)))
    whole = engine.best(queries, list(METHODS), k=K, lowest=3, histograms=True)
    monkeypatch.setattr("relatif.pipeline.explaining.training_pass.HISTOGRAM_BYTES", 4 * TRAINING * 2 * 4)
    parts = engine.best(queries, list(METHODS), k=K, lowest=3, histograms=True)
    for method in METHODS:
        assert torch.equal(whole.best[method].indices, parts.best[method].indices)
        assert torch.equal(whole.best[method].scores, parts.best[method].scores)
    assert sorted(whole.lowest) == ["gradient_cosine", "influence", "l_relatif", "theta_relatif"]
    assert torch.equal(whole.lowest["influence"].scores, -whole.best["negative_influence"].scores[:, :3])


def test_places_count_the_nearer_ones(engines: dict[str, Engine]) -> None:
    engine = engines["logistic"]
    queries = engine.rows("test", [0, 7])
    training = features(engine.rows("train", list(range(TRAINING))).inputs)
    rows = torch.tensor([[0, 199, 42], [5, 5, 6]])
    found = engine.places(queries, rows)
    for query, shown in enumerate(features(queries.inputs)):
        apart = (training.double() - shown.double()).square().sum(dim=1).sqrt().float()
        order = apart.sort(stable=True).indices.tolist()
        assert found[query].tolist() == [order.index(row) + 1 for row in rows[query].tolist()]
    nearest = engine.best(queries, ["nearest_neighbour"], k=TRAINING).best["nearest_neighbour"].indices
    assert torch.equal(engine.places(queries, nearest), torch.arange(1, TRAINING + 1).expand(2, TRAINING))


def test_a_training_example_is_nearest_to_itself_and_any_label_can_be_explained(engines: dict[str, Engine]) -> None:
    engine = engines["logistic"]
    queries = engine.rows("train", [11])
    assert engine.places(queries, torch.tensor([[11]])).tolist() == [[1]]
    values = [engine.rows("test", [4], label).columns["loss"].item() for label in (0, 1, 2, 3, "predicted")]
    assert min(values[:4]) == values[4]
    assert sum(np.exp(-np.array(values[:4]))) == pytest.approx(1)


@pytest.mark.parametrize(("split", "rows"), [("test", [TESTS]), ("test", [-1]), ("train", [3, TRAINING]), ("test", [])])
def test_rows_that_are_not_there_are_refused(engines: dict[str, Engine], split: str, rows: list[int]) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"from 0 to {TRAINING - 1 if split == 'train' else TESTS - 1}, found"
    ):
        engines["logistic"].rows(split, rows)


def test_labels_and_numbers_that_make_no_sense_are_refused(engines: dict[str, Engine]) -> None:
    engine = engines["logistic"]
    queries = engine.rows("test", [0])
    with pytest.raises(ConfigurationError, match=r"score\.explained_label"):
        engine.rows("test", [0], 4)
    with pytest.raises(ConfigurationError, match="at least 1 example"):
        engine.best(queries, ["influence"], k=0)
    with pytest.raises(ConfigurationError, match="methods among"):
        engine.best(queries, ["influenca"], k=1)


def test_the_run_explains_as_its_engine_does(engines: dict[str, Engine]) -> None:
    run = engines["logistic"].run
    assert isinstance(run, FinishedRun)
    found = run.explain(3, methods=["l_relatif"], top=4)
    indices, scores = table(engines["logistic"], "l_relatif", [3])
    assert [each.train_index for each in found.methods["l_relatif"]] == indices[0, :4].tolist()
    assert [each.score for each in found.methods["l_relatif"]] == scores[0, :4].tolist()
    assert Path(run.store.url).is_dir()

"""Scores of a finished run in parts: they add up to the table's scores, and to the engine's influence in float64."""

import pyarrow.compute as pc
import pytest
import torch

from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.chosen_pairs import ChosenPairsPlan
from relatif.pipeline.explaining.explanation import Explanation
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.explaining.one_query import influence_parts
from relatif.pipeline.explaining.parts import token_count
from relatif.schemas.errors import ConfigurationError
from tests.support.explained_runs import finished
from tests.support.letters import letters_run, pictures_run

torch.set_num_threads(1)

STORED = 1e-5
"""Relative to the largest: scores of dense gradients are float32 sums of some hundred products."""

CLOSE = 1e-11
"""Relative to the largest: float64 sums in another order."""

ROW = 7

SPLIT = ("positions", "cg")
"""Kinds of runs: gradients of several positions, and numerators that are solved for."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FinishedRun]:
    """Runs of these kinds, and one on names."""
    folder = tmp_path_factory.mktemp("finished")
    made = {kind: open_finished_run(finished(folder, kind, name=kind)) for kind in ("cg",)}
    return {**made, "positions": open_finished_run(pictures_run()), "letters": open_finished_run(letters_run())}


def explanation(run: FinishedRun) -> Explanation:
    return run.explain(ROW, top=5, harms=2)


@pytest.mark.parametrize("kind", [*SPLIT, "letters"])
@pytest.mark.parametrize("by", ["layer", "token"])
def test_parts_add_up_to_scores(runs: dict[str, FinishedRun], kind: str, by: str) -> None:
    found = explanation(runs[kind])
    if by == "token" and kind != "letters":
        with pytest.raises(ConfigurationError, match=r"expected inputs that are texts .* split them by layer"):
            found.parts(by)
        return
    parts = found.parts(by)
    assert set(parts) == set(found.methods) - {"nearest_neighbour"}
    for name, split in parts.items():
        helpers = (*found.methods[name], *found.harms.get(name, ()))
        assert len(helpers) == (5 if name == "negative_influence" else 7)
        scores = torch.tensor([each.score for each in helpers], dtype=torch.float64)
        totals = [split.total] if split.tokens is None else [split.total, split.tokens.sum(dim=1) + split.rest]
        for total in totals:
            assert float((total - scores).abs().max()) <= STORED * float(scores.abs().max()), name
        layers = {name.partition(".")[0] for name in split.layers}
        assert layers == set(runs[kind].engine.explainer.subject.coverage.layers)
        assert (split.tokens is not None) == (by == "token")


@pytest.mark.parametrize("kind", [*SPLIT, "letters"])
def test_parts_of_many_pairs_are_those_of_each(
    runs: dict[str, FinishedRun], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relatif.pipeline.explaining.one_query.ROWS_READ", 5)
    run, engine = runs[kind], runs[kind].engine
    queries = engine.rows("test", [3, 0, 8])
    pairs = [(0, 40), (2, 7), (0, 3), (2, 40), (2, 50), (0, 40)]
    tokens = token_count(run.dataset.description)
    found = dict(influence_parts(engine, queries, pairs, tokens=tokens))
    assert list(found) == [0, 2]
    for place, rows in ((0, [40, 3, 40]), (2, [7, 40, 50])):
        expected = engine.influence(queries.rows(slice(place, place + 1)), torch.tensor([rows]))[0]
        scale = float(expected.abs().max())
        assert float((found[place].total - expected).abs().max()) <= CLOSE * scale
        if tokens is not None:
            assert found[place].tokens is not None
            both = found[place].tokens.sum(dim=1) + found[place].rest  # type: ignore[union-attr]
            assert float((both - expected).abs().max()) <= CLOSE * scale


def test_letters_have_all_of_a_name_but_what_its_head_has(runs: dict[str, FinishedRun]) -> None:
    found = explanation(runs["letters"])
    split = found.parts("token")["influence"]
    assert split.whole == ("head",)
    torch.testing.assert_close(split.rest, split.layers["head"], rtol=1e-9, atol=1e-12)
    shown = found.shown("token").methods[0].helps[0]
    assert "".join(text for text, _ in shown.parts) == shown.media.text
    assert sum(value for _, value in shown.all_parts) == pytest.approx(shown.score, rel=1e-6)


def test_corrected_effects_are_those_of_each_pair_by_itself(runs: dict[str, FinishedRun]) -> None:
    run = runs["positions"]
    found = run.explain(4, "true", top=3)
    config = run.config
    plan = ChosenPairsPlan(run.source, run.train_shards, run.test_shards, "true", config.curvature)
    pairs = plan.load(Worker(1)).corrected([(4, row) for row in found.corrected])
    assert len(pairs) >= 3
    assert found.corrected == pytest.approx({row: value for (_, row), value in pairs.items()}, rel=1e-6)


def test_the_table_and_the_explanation_name_the_same_examples(runs: dict[str, FinishedRun]) -> None:
    run = runs["letters"]
    table = run.table("top_k").filter(pc.field("test_index") == ROW).to_pylist()
    found = run.explain(ROW, top=5)
    for name, helpers in found.methods.items():
        expected = [row["train_index"] for row in table if row["method"] == name]
        assert [each.train_index for each in helpers] == expected, name

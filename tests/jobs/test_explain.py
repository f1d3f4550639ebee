"""The command that explains one input, from a finished run and without Ray."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

import relatif
from relatif.jobs.explain import main
from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.schemas.errors import ConfigurationError, DataError
from tests.support.explained_runs import TESTS, TRAINING, K, finished
from tests.support.runs import ROOT

BLOCKED = "import sys; sys.modules['ray'] = None; from relatif.jobs.explain import main; raise SystemExit(main())"
"""A process in which nobody can import Ray."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of logistic regression."""
    return finished(tmp_path_factory.mktemp("finished"), "logistic")


def explained(out: Path, tmp_path: Path, *options: str) -> dict[str, object]:
    """Return the JSON that the command writes."""
    file = tmp_path / "explained.json"
    assert main(["--run", str(out), *options, "--json", str(file)]) == 0
    found: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_the_explanation_of_a_test_input_is_the_tables_without_ray(out: Path, tmp_path: Path) -> None:
    options = ["--run", str(out), "--test-index", "17", "--top", str(K), "--json", "here.json"]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *options],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("test input 17\nexplained ")
    found = json.loads((tmp_path / "here.json").read_text(encoding="utf-8"))
    run = open_finished_run(out)
    table = run.table("top_k").filter(pc.field("test_index") == 17)
    training = {row["train_index"]: row for row in run.table("train_examples").to_pylist()}
    assert list(found)[:3] == ["explained_label", "probability", "methods"]
    assert list(found["methods"]) == list(run.config.score.methods)
    for method, rows in found["methods"].items():
        expected = sorted(table.filter(pc.field("method") == method).to_pylist(), key=lambda row: row["rank"])
        assert [list(row)[:6] for row in rows] == [
            ["rank", "train_index", "train_id", "label", "probability", "score"]
        ] * K
        for row, other in zip(rows, expected, strict=True):
            assert {name: row[name] for name in ("rank", "train_index", "train_id", "score")} == {
                name: other[name] for name in ("rank", "train_index", "train_id", "score")
            }
            assert row["label"] == training[row["train_index"]]["label"]
            assert row["probability"] == training[row["train_index"]]["probability"]
    (own,) = run.table("test_examples").filter(pc.field("test_index") == 17).to_pylist()
    assert found["explained_label"] == own["explained_label"]
    assert found["probability"] == pytest.approx(own["probability"], rel=1e-6)


def test_a_reader_that_has_seen_enough_is_no_error(out: Path, tmp_path: Path) -> None:
    code = "from relatif.jobs.explain import main; raise SystemExit(main())"
    words = [sys.executable, "-c", code, "--run", str(out), "--test-index", "1", "--json", str(tmp_path / "a.json")]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        told = process.stderr.read()
        assert b"error" not in told
        assert f"the explanation as JSON: {tmp_path / 'a.json'}".encode() in told
    assert (tmp_path / "a.json").exists()


def test_a_reader_of_both_streams_that_has_seen_enough_costs_no_file(out: Path, tmp_path: Path) -> None:
    code = "from relatif.jobs.explain import main; raise SystemExit(main())"
    files = [str(tmp_path / "a.json"), str(tmp_path / "a.html")]
    words = [sys.executable, "-c", code, "--run", str(out), "--test-index", "1", "--json", files[0], "--html", files[1]]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
    assert all(Path(path).exists() for path in files)


def test_any_label_by_name_and_by_number(out: Path, tmp_path: Path) -> None:
    names = open_finished_run(out).dataset.class_names
    total = 0.0
    for label, name in enumerate(names):
        found = explained(out, tmp_path, "--test-index", "2", "--label", name, "--method", "influence", "--top", "3")
        assert found["explained_label"] == label
        assert found["explained_class"] == name
        assert list(found["methods"]) == ["influence"]  # type: ignore[call-overload]
        total += found["probability"]  # type: ignore[operator]
    assert total == pytest.approx(1)


def test_effects_are_influence_over_n_whatever_the_method(out: Path, tmp_path: Path) -> None:
    found = explained(out, tmp_path, "--test-index", "5", "--top", str(TRAINING))
    by_method = {
        method: {row["train_index"]: row.get("effect") for row in rows}
        for method, rows in found["methods"].items()  # type: ignore[attr-defined]
    }
    plain = {row["train_index"]: row["score"] / TRAINING for row in found["methods"]["influence"]}  # type: ignore[index]
    for method in ("influence", "theta_relatif", "l_relatif", "negative_influence"):
        assert by_method[method] == pytest.approx(plain, rel=1e-5, abs=1e-12)
    assert set(by_method["nearest_neighbour"].values()) == {None}


def test_a_training_example_is_among_its_own_explanations_unless_left_out(out: Path, tmp_path: Path) -> None:
    options = ("--train-index", "42", "--label", "true", "--method", "l_relatif", "--method", "nearest_neighbour")
    with_it = explained(out, tmp_path, *options, "--top", "5")["methods"]
    without = explained(out, tmp_path, *options, "--top", "5", "--without-itself")["methods"]
    for method in ("l_relatif", "nearest_neighbour"):
        listed, others = ([row["train_index"] for row in each[method]] for each in (with_it, without))  # type: ignore[index]
        # Of all examples none is nearer, nor more like it in its gradient.
        assert listed[0] == 42
        assert others[:4] == listed[1:]
        assert len(others) == 5
        assert 42 not in others


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--test-index", str(TESTS)), f"expected a test input from 0 to {TESTS - 1}, found {TESTS}"),
        (("--train-index", "-1"), f"expected a training example from 0 to {TRAINING - 1}, found -1"),
        (
            ("--test-index", "0", "--label", "nobody"),
            "expected a label predicted, true, class 0, class 1, class 2, class 3 or a number",
        ),
        (("--test-index", "0", "--label", "7"), "a number from 0 to 3, found '7'; name one of these"),
        (("--test-index", "0", "--invert", "yes"), "expected --invert beside --input, found no picture"),
        (("--test-index", "0", "--by", "token"), "expected inputs that are texts to split scores by token"),
        (("--text", "nobody"), "expected a picture, found a text"),
        (("--row", "[1]"), "expected one row as a JSON object in --row, found int"),
        (("--input", "nowhere.png"), "expected a file at nowhere.png, found none"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(
    out: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(out), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--row", "{"), "expected one row as a JSON object"),
        (("--test-index", "0", "--invert", "no"), "expected --invert beside --input"),
    ],
)
def test_what_is_wrong_of_any_run_is_refused_before_it_is_opened(
    tmp_path: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(tmp_path / "nowhere"), *options]) == 1
    assert message in capsys.readouterr().err


def test_an_opened_run_explains_rows_and_tensors(out: Path) -> None:
    run = relatif.open(str(out))
    assert isinstance(run, FinishedRun)
    (shard,) = run.dataset.shards("test", rows=TESTS)
    stored = read_shard(run.data, run.dataset, shard).inputs
    assert isinstance(stored, torch.Tensor)
    by_row, by_tensor = run.explain(9, top=4), run.explain(stored[9], top=4)
    assert by_row.methods == by_tensor.methods == run.explain(np.int64(9), top=4).methods
    assert by_row.label is not None
    assert by_tensor.label is None
    with pytest.raises(DataError, match="expected uint8 values for input 'pixels'"):
        run.explain(stored[9] / 255)
    with pytest.raises(DataError, match=r"of shape \[6, 6\], found \[2, 6, 6\]"):
        run.explain(stored[:2])
    with pytest.raises(ConfigurationError, match=r"a dict or the number of a test row to explain, found float"):
        run.explain(1.5)


def test_a_pictures_file_has_the_explanation_of_the_test_input_that_it_is(out: Path, tmp_path: Path) -> None:
    run = open_finished_run(out)
    (shard,) = run.dataset.shards("test", rows=TESTS)
    stored = read_shard(run.data, run.dataset, shard).inputs
    assert isinstance(stored, torch.Tensor)
    Image.fromarray(stored[11].numpy()).save(tmp_path / "11.png")
    by_row, by_file = (
        explained(out, tmp_path, *option, "--by", "layer", "--png", str(tmp_path / f"{option[0]}.png"))
        for option in (("--test-index", "11"), ("--input", str(tmp_path / "11.png")))
    )
    assert by_file["query"] == {"told": "the file 11.png", "part": None, "row": None}
    for name in ("explained_label", "probability", "methods", "harms", "loss"):
        assert by_file[name] == by_row[name], name
    assert by_file["notes"] == []
    assert main(["--run", str(out), "--test-index", "11", "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "<title>" in page
    assert "what speaks for" not in page.partition("</title>")[0]
    predicted = open_finished_run(out).explain(11, top=1).predicted_label
    other = open_finished_run(out).dataset.class_names[0 if predicted else 1]
    assert main(["--run", str(out), "--test-index", "11", "--label", other, "--html", str(tmp_path / "page.html")]) == 0
    title = (tmp_path / "page.html").read_text(encoding="utf-8").partition("</title>")[0]
    assert title.endswith(f": what speaks for {other}, test input 11")
    with Image.open(tmp_path / "--input.png") as image:
        assert image.width > 500
    Image.fromarray(stored[11].numpy()).convert("RGB").resize((50, 70)).save(tmp_path / "large.jpg")
    with pytest.raises(
        ConfigurationError, match="the true label or target of the picture, found none; give it in a row"
    ):
        run.explain(Image.fromarray(stored[11].numpy()), "true")
    notes = explained(out, tmp_path, "--input", str(tmp_path / "large.jpg"), "--invert", "yes")["notes"]
    assert notes == [
        "it was converted from RGB to grey",
        "it was resized from 50 x 70 to 6 x 6, stretched",
        "light and dark were exchanged, as asked",
    ]


def test_garbage_is_collected_once_the_job_is_loaded() -> None:
    assert gc.isenabled()

"""The paper's Fig. 1: influence names the outlier and few others, RelatIF many examples and the outlier less often."""

import io
import re
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from relatif.jobs import toy
from relatif.pipeline.datasets.toy import OUTLIER_INDEX
from relatif.schemas import run_directory

RESOLUTION = 40
SMALL_SET = 12
"""The paper's is 6; the limits here leave room for other data of the same kind."""


@pytest.mark.parametrize(("seed", "method"), [(0, "ekfac"), (1, "kfac")])
def test_relatif_explains_the_plane_by_many_more_examples(
    seed: int, method: str, tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seed", str(seed), "--resolution", str(RESOLUTION), "--set", f"curvature.method={method}"]
    assert toy.main(["--out", str(tmp_path), *options]) == 0
    printed = capsys.readouterr().out
    tables = tmp_path / run_directory.TABLES
    counts = {
        name: (examples, outlier / RESOLUTION**2)
        for name, examples, outlier in duckdb.sql(
            f"select method, count(distinct train_index), sum((train_index = {OUTLIER_INDEX})::int) "
            f"from '{tables}/top_k/*.parquet' where rank = 1 group by method"
        ).fetchall()
    }
    few, large = counts["influence"]
    assert few <= SMALL_SET
    assert large > 0.25
    for relative in ("theta_relatif", "l_relatif"):
        many, small = counts[relative]
        assert many >= 4 * few
        assert 0 < small < large / 2
    for name, row in (("influence", "IF"), ("theta_relatif", "theta-RelatIF"), ("l_relatif", "l-RelatIF")):
        assert re.search(rf"^{row} +{counts[name][0]} of 81 +{100 * counts[name][1]:.1f}% ", printed, re.MULTILINE)

    losses = duckdb.sql(f"select loss, label, predicted_label from '{tables}/train_examples/*.parquet'").fetchnumpy()
    named = duckdb.sql(
        f"select distinct train_index from '{tables}/top_k/*.parquet' where rank = 1 and method = 'influence'"
    ).fetchnumpy()["train_index"]
    assert losses["loss"][named].mean() > 3 * losses["loss"].mean(), "those few have high losses"
    assert losses["label"][OUTLIER_INDEX] != losses["predicted_label"][OUTLIER_INDEX]

    figure = np.asarray(Image.open(io.BytesIO((tmp_path / run_directory.PLANE).read_bytes())).convert("RGB"))
    assert len(np.unique(figure.reshape(-1, 3), axis=0)) > 100, "not blank"
    assert f"figure: {tmp_path / run_directory.PLANE}" in printed


def test_what_cannot_be_done_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.main(["--out", str(tmp_path), "--set", "curvature.dampning=1"]) == 1
    assert re.search("error: expected .*dampning", capsys.readouterr().err)
    assert toy.main(["--out", str(tmp_path), "--resolution", "1"]) == 1
    assert "error: expected a grid of at least 2 points on each side, found 1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        toy.main([])
    assert caught.value.code == 2

"""The linear datamodeling score as text, and a picture that shows every method's curve."""

import io

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from relatif.pipeline.report.linear_datamodeling import draw_correlations, linear_datamodeling_text
from relatif.schemas.tables import LINEAR_DATAMODELING_SCORE


def test_every_method_stands_with_its_interval() -> None:
    rows = [
        ("influence", 1000, 100, 0.8714, 0.8601, 0.8806),
        ("theta_relatif", 998, 100, 0.5, 0.4, 0.6),
        ("l_relatif", 1000, 100, -0.25, -0.5, 0.0),
    ]
    names = LINEAR_DATAMODELING_SCORE.schema.names
    table = pa.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows], schema=LINEAR_DATAMODELING_SCORE.schema
    )
    said = {
        "trainings": "2",
        "subsets": "50 of 100 training examples each, seed 0",
        "curvature": "kfac",
        "damping": "0.1",
    }
    assert linear_datamodeling_text(table, said) == (
        "linear_datamodeling: kfac, damping 0.1; 100 subsets, 2 model(s) of each\n"
        "(50 of 100 training examples each, seed 0; score: mean rank correlation of summed scores with -loss)\n"
        "\n"
        "method         test inputs   score     95% interval\n"
        "IF                   1,000   0.871   0.860 to 0.881\n"
        "theta-RelatIF          998   0.500   0.400 to 0.600\n"
        "l-RelatIF            1,000  -0.250  -0.500 to 0.000"
    )


def test_the_picture_changes_with_every_methods_scores() -> None:
    random = torch.Generator().manual_seed(0)
    losses = torch.rand(9, 20, generator=random)
    sums = {name: torch.rand(9, 20, generator=random) for name in ("influence", "theta_relatif", "l_relatif")}
    pictures = [draw_correlations(sums, losses)]
    pictures += [draw_correlations({**sums, name: values.flip(1)}, losses) for name, values in sums.items()]
    assert len(set(pictures)) == 4
    assert draw_correlations(sums, losses) == pictures[0]
    certain = torch.cat([losses, torch.zeros(1, 20)])
    more = {name: torch.cat([values, torch.ones(1, 20)]) for name, values in sums.items()}
    assert draw_correlations(more, certain) == pictures[0], "an input without a correlation is left out"
    pixels = np.asarray(Image.open(io.BytesIO(pictures[0])).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50

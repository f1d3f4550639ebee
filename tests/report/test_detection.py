"""The picture of detection curves: a PNG of the expected size that differs where the rankings do."""

import io

import numpy as np
import torch
from PIL import Image

from relatif.pipeline.influence.evaluation import detection
from relatif.pipeline.report.detection import draw_detection

WRONG = torch.arange(100) % 7 == 0


def pixels(values: torch.Tensor) -> np.ndarray:
    picture = draw_detection({"loss": detection(values, WRONG), "other": detection(torch.zeros(100), WRONG)})
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def test_the_picture_shows_the_curves() -> None:
    good, bad = pixels(WRONG.double()), pixels(-WRONG.double())
    assert good.shape == (900, 1200, 3)
    assert (good != bad).any(axis=2).sum() > 500
    assert np.array_equal(good, pixels(WRONG.double()))

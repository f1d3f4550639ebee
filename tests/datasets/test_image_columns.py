"""Columns are found by name and type, classes in the hub's metadata; images become channels, rows, columns."""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from relatif.pipeline.datasets.image_columns import ImageColumns, ImageForm, decode_images, find_columns, image_form
from relatif.schemas.errors import DataError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
RGB = ImageForm("RGB", 4, 6)


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", mode: str | None = None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, kind)
    return file.getvalue()


def hub(content: Any) -> dict[str, str]:
    return {"huggingface": json.dumps({"info": {"features": content}})}


@pytest.mark.parametrize(("image", "label"), [("img", "label"), ("image", "labels"), ("image", "fine_label")])
def test_columns_are_found_whatever_else_there_is(image: str, label: str) -> None:
    schema = pa.schema([("id", pa.int64()), (label, pa.int32()), (image, IMAGE), ("img_path", pa.string())])
    assert find_columns(schema, "here") == ImageColumns(image, label, None)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("img", IMAGE)], r"integer column named label or .* in here, found none among img \(struct"),
        ([("img", IMAGE), ("label", pa.string())], r"found none among .*label \(string\)"),
        (
            [("img", IMAGE), ("fine_label", pa.int64()), ("coarse_label", pa.int64())],
            "found fine_label and coarse_label",
        ),
        ([("img", IMAGE), ("image", IMAGE), ("label", pa.int64())], "img or image in here, found img and image"),
        ([("img", pa.binary()), ("label", pa.int64())], r"bytes and path .* found none among img \(binary\)"),
        ([("img", pa.struct([("bytes", pa.string()), ("path", pa.string())])), ("label", pa.int8())], "found none"),
    ],
)
def test_other_columns_are_refused_with_their_names(columns: list[tuple[str, pa.DataType]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_columns(pa.schema(columns), "here")


def test_classes_are_named_by_the_hub_s_metadata() -> None:
    schema = pa.schema([("img", IMAGE), ("label", pa.int64())])
    named = hub({"img": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}})
    unnamed = hub({"label": {"dtype": "int64", "_type": "Value"}})
    assert find_columns(schema.with_metadata(named), "here").class_names == ("cat", "dog")
    assert find_columns(schema.with_metadata(unnamed), "here").class_names is None
    for damaged in ({"huggingface": "{"}, hub({}), hub({"label": {"names": [1]}}), hub({"label": {"names": []}})):
        with pytest.raises(DataError, match=r"label.* metadata.* of here, found"):
            find_columns(schema.with_metadata(damaged), "here")


def test_pixels_come_in_planes() -> None:
    form = image_form(encoded(PIXELS), "here")
    assert (form, form.shape) == (RGB, (3, 4, 6))
    images = decode_images([encoded(PIXELS), encoded(255 - PIXELS)], form, "here", 0)
    assert images.shape == (2, 3, 4, 6)
    assert images[1, 2, 3, 5] == 255 - PIXELS[3, 5, 2]
    assert np.array_equal(images[0].transpose(1, 2, 0), PIXELS)


def test_grey_images_have_one_plane() -> None:
    form = image_form(encoded(PIXELS[..., 0]), "here")
    assert (form.mode, form.shape) == ("L", (1, 4, 6))
    assert np.array_equal(decode_images([encoded(PIXELS[..., 0])], form, "here", 0)[0, 0], PIXELS[..., 0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "expected an encoded image in row 8 of here, found none"),
        (b"", "row 8 of here, found one that is truncated, damaged or of another kind"),
        (encoded(PIXELS)[:-25], "row 8 of here, found one that is truncated"),
        (encoded(PIXELS, "JPEG")[:-40], "row 8 of here, found one that is truncated"),
        (encoded(PIXELS, "BMP"), "expected a whole PNG or JPEG image in row 8 of here"),
        (encoded(PIXELS, mode="RGBA"), "grey .L. or RGB pixels in row 8 of here, found mode RGBA"),
        (encoded(PIXELS, mode="P"), "found mode P"),
        (encoded(PIXELS[..., 0]), "to be RGB of 6 x 4, as the first one is, found L of 6 x 4 in row 8 of here"),
        (encoded(PIXELS[:3]), "found RGB of 6 x 3 in row 8 of here"),
        (encoded(PIXELS.transpose(1, 0, 2).copy()), "found RGB of 4 x 6 in row 8 of here"),
    ],
)
def test_an_image_that_does_not_fit_is_named_by_file_and_row(data: bytes | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_images([encoded(PIXELS), data], RGB, "here", 7)

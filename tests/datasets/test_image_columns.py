"""Columns are found by name and type, classes in the hub's metadata; images become channels, rows, columns."""

import io
import json
import struct
import zlib
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


def test_of_two_columns_of_labels_the_finer_is_taken_and_the_other_by_its_name() -> None:
    schema = pa.schema([("img", IMAGE), ("fine_label", pa.int64()), ("coarse_label", pa.int64())])
    assert find_columns(schema, "here") == ImageColumns("img", "fine_label", None, ("coarse_label",))
    assert find_columns(schema, "here", "coarse_label") == ImageColumns("img", "coarse_label", None)
    with pytest.raises(DataError, match="column named label in here, found none"):
        find_columns(schema, "here", "label")


def test_labels_may_be_lacking_where_that_is_said() -> None:
    schema = pa.schema([("img", IMAGE)])
    assert find_columns(schema, "here", may_lack_labels=True) == ImageColumns("img", None, None)
    with pytest.raises(DataError, match="found none"):
        find_columns(pa.schema([("img", IMAGE), ("label", pa.float64())]), "here", may_lack_labels=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("img", IMAGE)], r"integer column named label or .* in here, found none among img \(struct"),
        ([("img", IMAGE), ("label", pa.string())], r"found none among .*label \(string\)"),
        (
            [("img", IMAGE), ("label", pa.int64()), ("target", pa.int64())],
            r"found label and target among .*data\.label_column",
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


ORIENTATION = 0x0112


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_images_are_turned_upright(kind: str, turned: int) -> None:
    """Compared with what the standard says of each number, applied to the pixels as they are stored."""
    pixels = np.random.default_rng(turned).integers(0, 256, (8, 16, 3), np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored.transpose(1, 0, 2)[:, ::-1],
        7: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: stored.transpose(1, 0, 2)[::-1],
    }[turned]
    form = image_form(file.getvalue(), "here")
    assert (form.height, form.width) == upright.shape[:2]
    assert np.array_equal(decode_images([file.getvalue()], form, "here", 0)[0], upright.transpose(2, 0, 1))


def other_image(kind: str) -> bytes:
    file = io.BytesIO()
    grey = Image.fromarray(PIXELS[..., 0])
    match kind:
        case "animation":
            grey.save(file, "PNG", save_all=True, append_images=[Image.fromarray(255 - PIXELS[..., 0])])
        case "16 bits":
            Image.fromarray(PIXELS[..., 0].astype(np.uint16)).save(file, "PNG")
        case "16 bits of colour":
            return png_of_16_bits()
        case "GIF":
            grey.save(file, "GIF")
        case "CMYK":
            Image.fromarray(PIXELS).convert("CMYK").save(file, "JPEG")
        case "truncated JPEG":
            Image.fromarray(PIXELS).save(file, "JPEG")
            return file.getvalue()[:-40]
        case "bomb":
            Image.new("L", (9000, 9000)).save(file, "PNG")
        case "palette" | "transparency":
            Image.fromarray(PIXELS).convert("P" if kind == "palette" else "RGBA").save(file, "PNG")
    return file.getvalue()


def png_of_16_bits() -> bytes:
    """Return a PNG of one red pixel with 16 bits a value, which pillow can read but not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = zlib.compress(b"\0" + struct.pack(">HHH", 65535, 1, 255))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("animation", "found an animation"),
        ("16 bits", "found mode I;16"),
        ("16 bits of colour", "found 16 bits a value"),
        ("GIF", "PNG or JPEG"),
        ("CMYK", "found mode CMYK"),
        ("palette", "found mode P"),
        ("transparency", "found mode RGBA"),
        ("truncated JPEG", "truncated"),
        ("bomb", "found 9000 x 9000"),
        ("empty", "PNG or JPEG"),
    ],
)
def test_pictures_that_would_lose_something_are_refused(kind: str, told: str) -> None:
    with pytest.raises(DataError, match=f"{told}") as caught:
        image_form(other_image(kind), "row 3 of here")
    assert "row 3 of here" in str(caught.value)


@pytest.mark.parametrize("names", [["a", "a"], ["a", ""], ["a", " "]])
def test_classes_need_names_of_their_own(names: list[str]) -> None:
    schema = pa.schema([("img", IMAGE), ("label", pa.int64())], metadata=hub({"label": {"names": names}}))
    with pytest.raises(DataError, match="a name of its own for each class of label"):
        find_columns(schema, "here")

"""A user's picture is stored as its own library converts and resizes it, and nothing is done to it without a note."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from relatif.pipeline.datasets.description import InputDescription
from relatif.pipeline.datasets.given.pictures import Picture, ground, inverted, stored_picture, takes_picture
from relatif.schemas.errors import DataError

GREY = InputDescription(column="image", dtype="uint8", shape=(6, 5))
COLOUR = InputDescription(column="image", dtype="uint8", shape=(3, 6, 5))


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def test_a_picture_of_the_datas_own_form_keeps_its_pixels() -> None:
    for described, pixels in ((GREY, noise(6, 5)), (COLOUR, noise(6, 5, 3))):
        found = stored_picture(Image.fromarray(pixels), described)
        expected = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        assert np.array_equal(found.pixels, expected)
        assert found.notes == ()


def test_any_other_is_converted_and_resized_and_both_are_told() -> None:
    image = Image.fromarray(noise(12, 20, 3))
    found = stored_picture(image, GREY)
    assert np.array_equal(found.pixels, np.asarray(image.convert("L").resize((5, 6), Image.Resampling.BILINEAR)))
    assert found.notes == ("it was converted from RGB to grey", "it was resized from 20 x 12 to 5 x 6, stretched")
    found = stored_picture(Image.fromarray(noise(12, 10)), COLOUR)
    assert found.pixels.shape == (3, 6, 5)
    assert found.notes == ("it was converted from L to RGB", "it was resized from 10 x 12 to 5 x 6")
    assert (found.pixels[0] == found.pixels[2]).all()


def test_what_is_transparent_is_white_unless_the_data_drop_it() -> None:
    pixels = np.zeros((6, 5, 4), np.uint8)
    pixels[0, 0, 3] = 255
    found = stored_picture(Image.fromarray(pixels, "RGBA"), COLOUR)
    assert found.notes == ("its transparent parts were laid on white",)
    assert (found.pixels[:, 0, 0] == 0).all()
    assert (found.pixels.reshape(3, -1)[:, 1:] == 255).all()
    as_data = stored_picture(Image.fromarray(pixels, "RGBA"), COLOUR, as_data=True)
    assert not as_data.pixels.any()
    assert as_data.notes == ("it was converted from RGBA to RGB",)
    pixels[..., 3] = 255
    assert stored_picture(Image.fromarray(pixels, "RGBA"), COLOUR).notes == ()


def test_more_bits_than_are_stored_are_refused() -> None:
    for mode in ("I;16", "I", "F"):
        with pytest.raises(DataError, match=f"8 bits a value, found mode {mode}"):
            stored_picture(Image.new(mode, (5, 6)), GREY)


def test_the_ground_is_what_nearly_all_pixels_of_the_edges_are() -> None:
    digits = np.zeros((100, 8, 8), np.uint8)
    digits[:, 2:6, 2:6] = 255
    assert ground(digits) == "dark"
    assert ground(255 - digits) == "light"
    assert ground(digits[:1]) == "dark"
    digits[:2, 0] = 255
    assert ground(digits) is None, "two of a hundred have a light edge"
    assert ground(noise(40, 8, 8)) is None


def test_exchanging_light_and_dark_is_told() -> None:
    found = inverted(Picture(noise(6, 5), ("first",)), ", as asked")
    assert np.array_equal(found.pixels.astype(int) + noise(6, 5), np.full((6, 5), 255))
    assert found.notes == ("first", "light and dark were exchanged, as asked")


def test_which_inputs_are_pictures() -> None:
    assert takes_picture(GREY)
    assert takes_picture(COLOUR)
    others = (
        {"dtype": "float32", "shape": (6, 5)},
        {"dtype": "uint8", "shape": (5,)},
        {"dtype": "uint8", "shape": (2, 6, 5)},
        {"dtype": "uint8", "shape": (6, 5), "vocabulary": "ab"},
    )
    for other in others:
        assert not takes_picture(InputDescription.model_validate({"column": "image", **other}))

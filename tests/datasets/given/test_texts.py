"""A user's text becomes the codes that the data have, or is refused by its characters or its length."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from relatif.pipeline.datasets.description import InputDescription
from relatif.pipeline.datasets.given.texts import of_a_tokenizer, plain_name, stored_codes
from relatif.schemas.errors import DataError

LETTERS = InputDescription(column="name", dtype="uint8", shape=(5,), vocabulary="abc")


def test_codes_count_the_vocabularys_characters_from_1() -> None:
    found = stored_codes("cab", LETTERS)
    assert found.tolist() == [3, 1, 2, 0, 0]
    assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1 to 5 characters, as long as the data's longest, found 0"),
        ("abcabc", "found 6 in 'abcabc'"),
        ("aBc", r"characters among 'abc', as the data have them, found 'B' in 'aBc'"),
        ("x" * 60, r"found 60 in 'x{40}\.\.\.'"),
    ],
)
def test_other_texts_are_refused(text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        stored_codes(text, LETTERS)


@pytest.mark.parametrize(
    ("name", "plain", "notes"),
    [
        ("O'Neal", "O'Neal", ()),
        ("Ślusàrski", "Slusarski", ("its accents were dropped, as of all surnames", "it was read as 'Slusarski'")),
        (" Abreu-x ", "Abreux", (
            "spaces around it were dropped", "'-' were dropped, as of all surnames", "it was read as 'Abreux'"
        )),
    ],
)  # fmt: skip
def test_a_surname_is_read_in_plain_letters(name: str, plain: str, notes: tuple[str, ...]) -> None:
    assert plain_name(name) == (plain, notes)


def test_a_name_without_latin_letters_is_refused() -> None:
    with pytest.raises(DataError, match="at least one Latin letter, found '王'; transliterate"):
        plain_name("王")


def test_what_a_tokenizer_cuts_or_does_not_know_is_told(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "good": 2, "film": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(2)
    made.enable_padding(pad_id=1, pad_token="[PAD]", length=9)
    made.save(str(tmp_path / "tokenizer.json"))
    assert of_a_tokenizer("good film", str(tmp_path), 2) == ()
    assert of_a_tokenizer("odd good odd film", str(tmp_path), 3) == (
        "it was cut from 4 to 3 tokens, as the data's texts are",
        "the tokenizer does not know 'odd'",
    )

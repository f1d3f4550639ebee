"""Texts as numbers of tokens, by the ``tokenizer.json`` of a Hugging Face model.

Axes: N texts, T tokens.
"""

from collections.abc import Callable
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError

FILE = "tokenizer.json"
PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>")

Encode = Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]


def read_tokenizer(address: str) -> tuple[Tokenizer, bytes, str]:
    """Return a tokenizer, its file's bytes and its place for messages; DataError where it is missing or damaged."""
    store = open_store(address)
    path = FILE if store.size("") is None else ""
    data = store.find_bytes(path)
    if data is None:
        raise DataError(
            f"expected a tokenizer in {store.describe(path)}, found none; correct data.tokenizer, or save it there "
            f"by tokenizer.save_pretrained(FOLDER)"
        )
    try:
        return Tokenizer.from_buffer(data), data, store.describe(path)
    except Exception as error:  # the library raises plain exceptions
        raise DataError(
            f"expected a tokenizer in {store.describe(path)}, found none that can be read ({error}); save it anew"
        ) from error


def load_tokenizer(address: str, length: int, pad: int | None = None) -> tuple[Encode, str, int | None]:
    """Return a function of texts that gives codes and masks, int64 [N, T] of ``length``, and the file's SHA-256.

    Longer texts are cut and shorter ones are padded, as the tokenizer's file says. ``pad`` is the number of the token
    that the model takes for padding; it is returned where it counts in place of the file's. Raises DataError where the
    file is missing or damaged, and where nothing names a token to pad with.
    """
    made, data, where = read_tokenizer(address)
    padding = made.padding or {}
    token = padding.get("pad_token") or next((each for each in PADDING if made.token_to_id(each) is not None), None)
    own = None if token is None else padding.get("pad_id", made.token_to_id(token) or 0)
    named = None if pad is None else made.id_to_token(pad)
    token, number = (token, own) if named is None else (named, pad)
    if token is None:
        raise DataError(
            f"expected a token to pad with ({', '.join(PADDING)}) in {where}, found none; add one to the tokenizer"
        )
    made.enable_truncation(length)
    made.enable_padding(direction=padding.get("direction", "right"), pad_id=number, pad_token=token, length=length)

    def encode(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        found = made.encode_batch(texts)
        codes = np.array([each.ids for each in found], np.int64).reshape(len(texts), length)
        return codes, np.array([each.attention_mask for each in found], np.int64).reshape(len(texts), length)

    return encode, sha256(data).hexdigest(), None if number == own else number

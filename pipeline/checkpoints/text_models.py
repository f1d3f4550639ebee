"""What a model folder of Hugging Face says of the tokens that its model reads: how many, of which vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relatif.pipeline.checkpoints.hugging_face import folder_json, model_config
from relatif.pipeline.checkpoints.places import CONFIG
from relatif.pipeline.storage.store import open_store

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
STATED = "model_max_length"

POSITIONS = ("max_position_embeddings", "n_positions")
"""What configurations call the number of positions that a model has."""

BEHIND_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Kinds of models whose first position has the number behind that of the token to pad with: those before have none."""

RELATIVE = ("t5", "mt5", "umt5", "longt5")
"""Kinds of models that know distances alone; the number of positions in their configurations bounds nothing."""

UNBOUNDED = 10**9
"""A number of tokens from here on stands for none, as tokenizers write it."""


@dataclass(frozen=True)
class Limit:
    """The largest number of tokens of an example, and who says so."""

    tokens: int
    told: str


@dataclass(frozen=True)
class TextModel:
    """What is known of a model that reads tokens; each is None where nobody says it.

    ``tokenizer`` is the address of a folder with tokenizer.json, ``words`` the size of the vocabulary, ``padding`` the
    number of the token to pad with.
    """

    tokenizer: str | None = None
    positions: Limit | None = None
    words: int | None = None
    padding: int | None = None


def text_model(address: str) -> TextModel:
    """Return what the model folder at an address says; DataError where its ``config.json`` is damaged."""
    config = model_config(address)
    if config is None:
        return TextModel()
    store = open_store(address)
    tokenizer = address if store.size(TOKENIZER) is not None else None
    padding = config.get("pad_token_id")
    whole = isinstance(padding, int) and not isinstance(padding, bool) and padding >= 0
    return TextModel(
        tokenizer, _positions(config, address), _count(config.get("vocab_size")), padding if whole else None
    )


def length_limit(model: TextModel, tokenizer: str | None) -> Limit | None:
    """Return the least of the model's number of positions and what the tokenizer's folder states; None without both."""
    stated = None
    if tokenizer is not None:
        found = folder_json(tokenizer, TOKENIZER_CONFIG, "a tokenizer") or {}
        count = _count(found.get(STATED))
        stated = None if count is None else Limit(count, f"{STATED} of {TOKENIZER_CONFIG} in {tokenizer}")
    return min(filter(None, (model.positions, stated)), key=lambda limit: limit.tokens, default=None)


def _positions(config: Mapping[str, Any], address: str) -> Limit | None:
    kind = config.get("model_type")
    name = next((name for name in POSITIONS if _count(config.get(name)) is not None), None)
    if name is None or kind in RELATIVE:
        return None
    told = f"{name} of {CONFIG} in {address}"
    if kind not in BEHIND_PADDING:
        return Limit(config[name], told)
    before = int(config.get("pad_token_id") or 0) + 1
    return Limit(max(1, config[name] - before), f"{told}, less {before} before the first")


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < UNBOUNDED else None  # type: ignore[operator,return-value]
